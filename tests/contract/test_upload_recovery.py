"""What becomes of a patient's files when something on our side goes wrong: they are kept, and the work goes on later."""

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from functions import ingest, studies, upload
from functions.inference.handlers import fail_task, start_task
from functions.inference.repository import InferenceRepository
from shared.db.models import InferenceTask, OutboxEntry, Study, StudyFile, StudyStatus, TaskState
from shared.events import InferenceRequested, StudyIngested, UploadCompleted
from shared.runtime import Services
from shared.runtime.postgres_bus import PostgresBus
from shared.runtime.unit import unit_of_work
from tests.contract.test_brain_upload import SECONDS, Clinic, LogIn, compressed, left_behind, nifti, tenant_of

FLAIR = ("a_flair.nii.gz", compressed(nifti()))


@pytest.fixture
def clinic(client_for: Any, register_and_login: LogIn) -> Clinic:
    """Uploads that nobody ingests until `ingesting` is asked for."""
    client: TestClient = client_for(upload.function, studies.function)
    return Clinic(client, register_and_login(client, "dr-patient"))


@pytest.fixture
def bus(services: Services) -> PostgresBus:
    return PostgresBus(services.database)


@pytest.fixture
def ingesting(services: Services, bus: PostgresBus) -> Iterator[Callable[[], None]]:
    """`ingesting()` starts ingest."""
    consumers = []

    def start() -> None:
        consumers.append(bus.consumer(ingest.function, services))
        consumers[0].start()

    yield start
    for consumer in consumers:
        consumer.stop(SECONDS)


class Records:
    """The tenant's rows, read and written as functions do."""

    def __init__(self, services: Services, study_id: str) -> None:
        self.services = services
        self.id = UUID(study_id)
        self.tenant = tenant_of(services)

    def emit(self, *events: Any) -> None:
        with unit_of_work(self.services, self.tenant) as unit:
            for event in events:
                unit.emit(event)

    def announced(self, kind: type[Any]) -> int:
        """How many events of a type there are of this tenant."""
        with self.services.database.system() as session:
            return len(
                session.scalars(
                    select(OutboxEntry).where(
                        OutboxEntry.type == f"hounsfield.{kind.type}", OutboxEntry.tenant_id == self.tenant
                    )
                ).all()
            )

    def start_task(self) -> None:
        with unit_of_work(self.services, self.tenant) as unit:
            start_task(StudyIngested(study_id=self.id, kind="brain-mri"), unit)

    def end_task(self, state: TaskState, study: StudyStatus) -> None:
        with unit_of_work(self.services, self.tenant) as unit:
            task = unit.session.scalars(select(InferenceTask).order_by(InferenceTask.id.desc())).first()
            assert task is not None
            task.state = state
            unit.session.get_one(Study, self.id).status = study

    def fail_task(self) -> None:
        with unit_of_work(self.services, self.tenant) as unit:
            [task] = unit.session.scalars(select(InferenceTask).where(InferenceTask.state == "PENDING"))
            event = InferenceRequested(task_id=task.id, study_id=self.id, pipeline="brain-mri")
            assert InferenceRepository(unit.session).start(task.id)
            fail_task(event, unit, "no connection")

    def task_states(self) -> list[str]:
        with unit_of_work(self.services, self.tenant) as unit:
            return list(unit.session.scalars(select(InferenceTask.state).order_by(InferenceTask.id)))

    def files(self) -> list[StudyFile]:
        with unit_of_work(self.services, self.tenant) as unit:
            return list(unit.session.scalars(select(StudyFile).where(StudyFile.study_id == self.id)))


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def ingested(clinic: Clinic, study_id: str) -> bool:
    return bool(clinic.get(f"studies/{study_id}").json()["status"] == "ingested")


def test_a_missing_object_rejects_nothing_and_a_replay_goes_on_once_it_is_back(
    services: Services, clinic: Clinic, bus: PostgresBus, ingesting: Callable[[], None]
) -> None:
    sent = clinic.send(FLAIR, patient_name="Ada Example").json()
    [key] = left_behind(services)
    content = services.storage.read("incoming", key)
    services.storage.delete("incoming", key)
    services.storage.put("incoming", f"{key}.beside", b"another object of the study")
    records = Records(services, sent["id"])
    ingesting()
    [letter] = wait_for(bus.dead_letters.list)
    study = clinic.get(f"studies/{sent['id']}").json()
    assert (study["status"], study["patient_name"]) == ("receiving", "Ada Example")
    assert study["message"] == "the files could not be processed; an operator can replay it"
    assert [file.key for file in records.files()] == [key]
    services.storage.put("incoming", key, content)
    bus.dead_letters.replay(letter.id)
    wait_for(lambda: ingested(clinic, sent["id"]))
    assert clinic.get(f"studies/{sent['id']}").json()["message"] is None
    assert f"{key}.beside" in left_behind(services)


def test_files_that_were_given_up_on_are_taken_up_again_when_they_are_sent_again(
    services: Services, clinic: Clinic, bus: PostgresBus, ingesting: Callable[[], None]
) -> None:
    sent = clinic.send(FLAIR).json()
    [key] = left_behind(services)
    content = services.storage.read("incoming", key)
    services.storage.delete("incoming", key)
    ingesting()
    wait_for(bus.dead_letters.list)
    services.storage.put("incoming", key, content)
    again = clinic.send(FLAIR)
    assert (again.status_code, again.json()["known"], again.json()["id"]) == (202, True, sent["id"])
    wait_for(lambda: ingested(clinic, sent["id"]))
    assert clinic.send(FLAIR).status_code == 200


def test_a_second_event_of_an_upload_changes_nothing(
    services: Services, clinic: Clinic, ingesting: Callable[[], None]
) -> None:
    study_id = clinic.send(FLAIR).json()["id"]
    records = Records(services, study_id)
    upload_completed = UploadCompleted(upload_id=records.id, study_id=records.id, kind="brain-mri")
    ingesting()
    wait_for(lambda: ingested(clinic, study_id))
    records.start_task()
    records.end_task(TaskState.SUCCESS, StudyStatus.COMPLETED)
    other = clinic.send(("b_flair.nii", nifti() + b"\0")).json()["id"]
    records.emit(upload_completed, upload_completed)
    after = UploadCompleted(upload_id=UUID(other), study_id=UUID(other), kind="brain-mri")
    records.emit(after)
    wait_for(lambda: ingested(clinic, other))
    time.sleep(0.3)
    assert clinic.get(f"studies/{study_id}").json()["status"] == "completed"
    assert records.announced(StudyIngested) == 2  # one of each study


def test_an_ingested_study_gets_one_task_however_often_it_is_announced(
    services: Services, clinic: Clinic, ingesting: Callable[[], None]
) -> None:
    study_id = clinic.send(FLAIR).json()["id"]
    records = Records(services, study_id)
    records.start_task()
    assert records.task_states() == []  # not ingested yet
    ingesting()
    wait_for(lambda: ingested(clinic, study_id))
    for _ in range(2):
        records.start_task()
    assert records.task_states() == ["PENDING"]
    for state, status in (
        (TaskState.STARTED, StudyStatus.PROCESSING),
        (TaskState.STARTED, StudyStatus.INGESTED),
        (TaskState.SUCCESS, StudyStatus.INGESTED),
        (TaskState.SUCCESS, StudyStatus.COMPLETED),
    ):
        records.end_task(state, status)
        records.start_task()
        assert records.task_states() == [state]
    assert records.announced(InferenceRequested) == 1


def test_the_same_files_after_a_failed_analysis_are_analysed_again(
    services: Services, clinic: Clinic, ingesting: Callable[[], None]
) -> None:
    study_id = clinic.send(FLAIR).json()["id"]
    records = Records(services, study_id)
    ingesting()
    wait_for(lambda: ingested(clinic, study_id))
    records.start_task()
    records.fail_task()
    assert clinic.get(f"studies/{study_id}").json()["message"] == "analysis failed: no connection"
    stored = left_behind(services)
    again = clinic.send(FLAIR)
    assert (again.status_code, again.json()["known"], again.json()["id"]) == (202, True, study_id)
    assert left_behind(services) == stored
    study = clinic.get(f"studies/{study_id}").json()
    assert (study["status"], study["message"], study["progress"]) == ("ingested", None, 10)
    assert records.announced(StudyIngested) == 2
    once_more = clinic.send(FLAIR)  # under way already: nothing is to be done
    assert (once_more.status_code, once_more.json()["known"]) == (200, True)
    assert records.announced(StudyIngested) == 2
    records.start_task()
    assert records.task_states() == ["FAILURE", "PENDING"]
    assert clinic.send(FLAIR).status_code == 200
