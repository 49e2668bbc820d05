"""kill -9 at every boundary and at random moments: the task finishes, once, and no finished step runs again."""

import random
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select

from functions.upload.brain_mri.service import receive_mri
from functions.upload.receiving import Incoming
from shared.config import Settings
from shared.db.models import (
    Artifact,
    Finding,
    InboxEntry,
    InferenceTask,
    OutboxEntry,
    Report,
    StepResult,
    Study,
)
from shared.db.session import Database
from shared.intake import Patient
from shared.oip.server_process import ModelServerProcess
from shared.runtime import Services
from shared.runtime.unit import unit_of_work
from shared.storage.folder import FolderStorage
from shared.storage.signing import UrlSigner
from tests.builders import make_user
from tests.conftest import open_folder
from tests.integration.installation import Installation

MOST_CRASHES = 60
SECONDS = 120


class Worker:
    """Starts workers that kill themselves, and looks at what they left."""

    def __init__(self, url: str, objects: Path, model_url: str, database: Database, tenant_id: UUID) -> None:
        self._arguments = [url, str(objects), model_url]
        self.database = database
        self.tenant_id = tenant_id

    def run(self, when: str, number: int) -> bool:
        """One life; True when it was cut short, False when the work was done before that."""
        command = [
            sys.executable,
            "-m",
            "tests.integration.crashing_worker",
            *self._arguments,
            when,
            str(number),
        ]
        process = subprocess.Popen(command, cwd=Path(__file__).resolve().parents[2])
        deadline = time.monotonic() + SECONDS
        try:
            while process.poll() is None:
                if self.idle():
                    return False
                assert time.monotonic() < deadline, "neither killed nor done"
                time.sleep(0.05)
            assert process.returncode == -9, f"the worker ended by itself: {process.returncode}"
            return True
        finally:
            process.kill()
            process.wait()

    def idle(self) -> bool:
        """Whether the report is written and nothing waits."""
        with self.database.tenant(self.tenant_id) as session:
            waiting = session.scalar(select(func.count()).where(InboxEntry.state == "pending"))
            return waiting == 0 and session.scalar(select(func.count(Report.id))) == 1

    def finished_steps(self) -> dict[UUID, str]:
        """Step results by id."""
        with self.database.tenant(self.tenant_id) as session:
            return {step.id: step.step for step in session.scalars(select(StepResult))}

    def beginnings(self, step: str) -> int:
        """How often a step was begun."""
        with self.database.tenant(self.tenant_id) as session:
            begun = select(func.count()).where(
                OutboxEntry.type == "hounsfield.inference.progressed",
                OutboxEntry.envelope["data"]["step"].astext == step,
            )
            return session.scalar(begun) or 0


@pytest.fixture
def worker(
    database: Database,
    database_url: str,
    objects_dir: Path,
    model_server: ModelServerProcess,
    tenant_id: UUID,
) -> Worker:
    return Worker(database_url, objects_dir, model_server.url, database, tenant_id)


@pytest.fixture
def sent(worker: Worker, objects_dir: Path, brain_files: list[Path]) -> UUID:
    """A study, uploaded and not yet worked on."""
    storage = FolderStorage(objects_dir, UrlSigner(b"unused"), "http://127.0.0.1")
    services = Services(Settings(), worker.database, storage)
    user = make_user(worker.database, worker.tenant_id)
    files = [Incoming(path.open("rb"), path.name, None) for path in brain_files]
    with unit_of_work(services, worker.tenant_id) as unit:
        received = receive_mri(unit, user, files, Patient(), duplicate=False)
    for file in files:
        file.stream.close()
    assert not received.known
    return received.study.id


@pytest.mark.timeout(900)
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_boundary_the_task_finishes_once(worker: Worker, sent: UUID, when: str) -> None:
    crashes, number = 0, 1
    known: dict[UUID, str] = {}
    begun: dict[str, int] = {}
    while worker.run(when, number):
        crashes += 1
        assert crashes <= MOST_CRASHES
        finished = worker.finished_steps()
        assert known.items() <= finished.items(), "a finished step was lost"
        for step in known.values():
            assert worker.beginnings(step) == begun[step], f"{step} had finished and ran again"
        # The same boundary again only when it brought nothing new; else the next life would die there for ever.
        number = number + 1 if finished == known else 2
        known = finished
        begun = {step: worker.beginnings(step) for step in known.values()}
    assert crashes >= 6, "the worker was to be killed at many boundaries"
    assert_finished_once(worker.database, worker.tenant_id, sent)


def assert_finished_once(database: Database, tenant_id: UUID, study_id: UUID) -> None:
    with database.tenant(tenant_id) as session:
        assert session.get_one(Study, study_id).status == "completed"
        [task] = session.scalars(select(InferenceTask).where(InferenceTask.study_id == study_id)).all()
        assert task.state == "SUCCESS"
        names = session.scalars(select(Finding.name).where(Finding.study_id == study_id)).all()
        assert len(names) == len(set(names)) >= 4
        steps = session.scalars(select(StepResult.step).where(StepResult.task_id == task.id)).all()
        assert len(steps) == len(set(steps))
        roles = session.scalars(select(Artifact.role).where(Artifact.study_id == study_id)).all()
        assert len(roles) == len(set(roles))
        assert {"mask", "overlay", "report-pdf"} <= set(roles)
        assert session.scalar(select(func.count(Report.id)).where(Report.study_id == study_id)) == 1
        completed = select(func.count()).where(OutboxEntry.type == "hounsfield.inference.completed")
        assert session.scalar(completed) == 1


@pytest.mark.timeout(900)
def test_hounsfield_up_killed_at_random_moments_finishes_what_it_began(
    model_server: ModelServerProcess, objects_dir: Path, brain_files: list[Path]
) -> None:
    moments = random.Random(20)
    environment = {"HOUNSFIELD_STORAGE_URL": objects_dir.as_uri()}
    with (
        open_folder() as folder,
        Installation(folder / "data", model_server.url, **environment) as installation,
    ):
        installation.start()
        installation.login()
        study_id = installation.submit(brain_files)["id"]
        for _ in range(4):
            time.sleep(moments.uniform(0.1, 2.5))
            installation.kill()
            installation.start()
        study = installation.wait(study_id)
        names = [found["name"] for found in study["results"]["findings"]]
        assert len(names) == len(set(names)) >= 4
        assert installation.stop() == 0
