"""Requests and functions that meet over the same rows: each gets an answer, none waits for the other for ever."""

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from sqlalchemy import delete, event, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from functions import studies, upload
from functions.inference.repository import InferenceRepository
from functions.upload.receiving import About, make_study
from shared.db.models import Case, IdempotencyKey, InferenceTask, Study, TaskState, User
from shared.http.problems import install_problem_handlers
from shared.ids import uuid7
from shared.intake import join, new_study
from shared.runtime import Services
from shared.runtime.unit import unit_of_work
from shared.security.sealing import name_ring
from tests.builders import nifti_header, nifti_voxels
from tests.contract.conftest import ClientFor, LogIn
from tests.contract.sending import Sender, make_case, rows, tenant_of

DATA = nifti_header() + nifti_voxels(120)
SHA256 = {"sha256": hashlib.sha256(DATA).hexdigest()}
SECONDS = 20


@pytest.fixture
def sender(client_for: ClientFor, register_and_login: LogIn) -> Sender:
    client = client_for(upload.function, studies.function)
    return Sender(client, register_and_login(client, "dr-sender"))


def sent(sender: Sender, **fields: Any) -> dict[str, Any]:
    """An upload whose parts are all there."""
    started = sender.start(len(DATA), **fields)
    sender.send(started, DATA)
    return started


def meeting(services: Services, other: Callable[[], Any], then: Callable[[], object]) -> Future[Any]:
    """What `other` gives, which first waits for a row that the test's transaction holds; `then` goes on in that."""
    done: Future[Any] = Future()
    threading.Thread(target=lambda: _settle(done, other), daemon=True).start()
    waiting = text("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")
    until = time.monotonic() + SECONDS
    while not done.done() and time.monotonic() < until:
        with services.database.engine.connect() as connection:
            if connection.scalar(waiting):
                break
        time.sleep(0.02)
    then()
    return done


def _settle(done: Future[Any], work: Callable[[], Any]) -> None:
    try:
        done.set_result(work())
    except OperationalError as error:
        done.set_exception(error)


def test_a_case_may_be_deleted_while_an_upload_for_it_is_finished(services: Services, sender: Sender) -> None:
    case_id = make_case(services, "dr-sender")
    started = sent(sender, case_id=str(case_id))
    with services.database.tenant(tenant_of(services)) as session:
        session.execute(select(Case.id).where(Case.id == case_id).with_for_update())
        gone = delete(Case).where(Case.id == case_id)
        answer = meeting(services, lambda: sender.finish(started), lambda: session.execute(gone))
    assert answer.result(SECONDS).status_code == 202
    [study] = rows(services, Study)
    assert study.case_id is None


def test_a_known_study_that_is_being_deleted_is_not_known_any_more(
    services: Services, sender: Sender
) -> None:
    first = sender.finish(sent(sender, **SHA256)).json()["study_id"]
    again = sent(sender, **SHA256)
    with services.database.tenant(tenant_of(services)) as session:
        session.execute(delete(Study).where(Study.id == UUID(first)))
        answer = meeting(services, lambda: sender.finish(again), lambda: None)
    assert answer.result(SECONDS).status_code == 202, answer.result().text
    assert (
        [str(study.id) for study in rows(services, Study)] == [answer.result().json()["study_id"]] != [first]
    )


def test_a_study_that_was_opened_and_closed_at_this_moment_is_opened_anew(
    services: Services, sender: Sender
) -> None:
    owner, tenant_id, settle = rows(services, User)[0].id, tenant_of(services), timedelta(minutes=1)

    def somebody_else_opens() -> Study:
        if not rows(services, Study):
            with unit_of_work(services, tenant_id) as unit:
                join(unit, "case:1", settle, lambda: new_study(unit, owner, "brain-mri"))
        return fresh

    def and_closes(session: Session, _transaction: object) -> None:
        with services.database.tenant(tenant_id) as other:
            other.execute(update(Study).values(settle_at=None))

    with unit_of_work(services, tenant_id) as unit:
        fresh = make_study(unit, owner, About("brain-mri"), "brain-mri")
        event.listen(unit.session, "after_soft_rollback", and_closes)
        assert join(unit, "case:1", settle, somebody_else_opens) is fresh
    assert {study.settle_at is None for study in rows(services, Study)} == {True, False}


CHANGES: dict[str, Callable[[InferenceRepository, InferenceTask], object]] = {
    "started": lambda tasks, task: tasks.start(task.id),
    "on its way": lambda tasks, task: tasks.progress(task, "segmented", 50),
    "failed": lambda tasks, task: tasks.mark_failed(task.id, task.study_id, "no model"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_study_may_be_deleted_while_it_is_analysed(
    services: Services, sender: Sender, change: Callable[[InferenceRepository, InferenceTask], object]
) -> None:
    study_id = UUID(sender.finish(sent(sender)).json()["study_id"])
    tenant_id = tenant_of(services)
    owner = {"tenant_id": tenant_id, "study_id": study_id, "user_id": rows(services, User)[0].id}
    with services.database.tenant(tenant_id) as session:
        session.add(InferenceTask(id=uuid7(), **owner, pipeline="brain-mri", state=TaskState.PENDING))
    [task] = rows(services, InferenceTask)

    def analyse() -> None:
        with services.database.tenant(tenant_id) as other:
            change(InferenceRepository(other), task)

    with services.database.tenant(tenant_id) as session:
        session.execute(select(Study.id).where(Study.id == study_id).with_for_update())
        gone = delete(Study).where(Study.id == study_id)
        ended = meeting(services, analyse, lambda: session.execute(gone))
    assert ended.result(SECONDS) is None
    assert (rows(services, Study), rows(services, InferenceTask)) == ([], [])


def test_who_waits_for_each_other_is_told_to_try_again(services: Services) -> None:
    app = FastAPI()
    install_problem_handlers(app)
    both = threading.Barrier(2)

    @app.get("/{first}/{second}")
    def lock(first: int, second: int) -> None:
        with services.database.system() as session:
            session.execute(text("select pg_advisory_xact_lock(:n)"), {"n": first})
            both.wait(SECONDS)
            session.execute(text("select pg_advisory_xact_lock(:n)"), {"n": second})

    with TestClient(app) as client, ThreadPoolExecutor(2) as threads:
        answers = sorted(threads.map(client.get, ("/1/2", "/2/1")), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [200, 503]
    assert answers[1].headers["retry-after"] == "1"
    assert "at this moment" in answers[1].json()["detail"]


# What the same walk through the routes brought to light besides


def test_a_deleted_study_is_forgotten_by_its_idempotency_key_too(services: Services, sender: Sender) -> None:
    def send() -> Any:
        headers = sender.headers | {"Idempotency-Key": "k-1"}
        return sender.client.post("/api/studies", files=[("files", ("a.nii", DATA))], headers=headers)

    first = send().json()["id"]
    assert sender.delete(f"studies/{first}").status_code == 204
    assert rows(services, IdempotencyKey) == []
    assert send().json()["id"] != first


def test_what_is_wrong_with_a_key_is_told_once(sender: Sender) -> None:
    refused = sender.post("uploads", {"filename": "a", "size": 1}, **{"Idempotency-Key": "a b"})
    assert (refused.status_code, refused.json()["detail"].count("Idempotency-Key:")) == (422, 1)


def test_kinds_are_taken_in_any_case(services: Services, sender: Sender) -> None:
    assert sender.start(kind="Brain-MRI")["kind"] == "brain-mri"
    form = {"files": ("a.nii", DATA)}, {"kind": "CT"}
    answer = sender.client.post("/api/studies", files=form[0], data=form[1], headers=sender.headers)
    assert answer.json()["kind"] == "ct"


def test_a_text_where_a_file_belongs_is_told_in_plain_words(sender: Sender) -> None:
    answer = sender.client.post("/api/studies", data={"files": "hello"}, headers=sender.headers)
    assert (answer.status_code, "give the part of the form a file name" in answer.json()["detail"]) == (
        422,
        True,
    )


def test_patients_names_are_kept_without_control_characters(services: Services, sender: Sender) -> None:
    form = {"files": ("a.nii", DATA)}, {"patient_name": "Ann\x00\n\u202e O"}
    sender.client.post("/api/studies", files=form[0], data=form[1], headers=sender.headers)
    [study] = rows(services, Study)
    assert services.once(name_ring).open(study.patient_name_sealed, study.id) == "Ann___ O"


def test_one_missing_part_is_told_in_the_singular(sender: Sender) -> None:
    answer = sender.finish(sender.start(len(DATA)))
    assert "1 of the upload's 1 parts was not received: 1" in answer.json()["detail"]
