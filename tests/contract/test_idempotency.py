"""`Idempotency-Key`: what is sent again because its answer was lost is done once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text, update

from shared.db.models import AuditEntry, IdempotencyKey, Study, StudyFile, Upload
from shared.http.idempotency import clean_idempotency_keys
from shared.runtime import Services
from tests.builders import nifti_header, nifti_voxels
from tests.contract.conftest import LogIn
from tests.contract.sending import Sender, announced, make_case, rows, tenant_of

KEY = "Idempotency-Key"
REPLAYED = "idempotency-replayed"
ASKED = {"filename": "a.zip", "size": 100, "kind": "ct"}


def nifti(seed: int = 0) -> bytes:
    return nifti_header() + nifti_voxels(120 + seed)


def form(sender: Sender, path: str, key: str | None, *files: tuple[str, Any], **fields: str) -> Any:
    """A multipart form; its boundary is another one each time."""
    headers = sender.headers | ({KEY: key} if key else {})
    return sender.client.post(f"/api/{path}", files=list(files), data=fields, headers=headers)


def test_the_same_request_gets_the_first_answer_again(services: Services, sender: Sender) -> None:
    first = sender.post("uploads", ASKED, **{KEY: "k-1"})
    again = sender.post("uploads", ASKED, **{KEY: "k-1"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert (first.headers.get(REPLAYED), again.headers.get(REPLAYED)) == (None, "true")
    assert len(rows(services, Upload)) == 1
    [entry] = [entry for entry in rows(services, AuditEntry) if entry.action == "request.replay"]
    assert entry.details == {"status": 201, "location": first.headers["location"]}


def test_json_counts_by_its_values_not_by_how_it_is_written(services: Services, sender: Sender) -> None:
    headers = sender.headers | {KEY: "k-1", "Content-Type": "application/json"}
    spellings = '{"filename":"a.zip","size":100}', '{ "size" : 100,\n "filename" : "a.zip" }'
    answers = [sender.client.post("/api/uploads", content=one, headers=headers) for one in spellings]
    assert [answer.headers.get(REPLAYED) for answer in answers] == [None, "true"]
    assert len(rows(services, Upload)) == 1


def test_without_a_key_or_with_another_it_is_another_request(services: Services, sender: Sender) -> None:
    for headers in ({}, {}, {KEY: "a"}, {KEY: "b"}):
        assert sender.post("uploads", ASKED, **headers).status_code == 201
    assert len(rows(services, Upload)) == 4


@pytest.mark.parametrize("other", [{**ASKED, "size": 101}, {**ASKED, "kind": "oct"}])
def test_another_request_under_the_same_key_is_a_mistake(
    services: Services, sender: Sender, other: dict[str, Any]
) -> None:
    sender.post("uploads", ASKED, **{KEY: "k-1"})
    refused = sender.post("uploads", other, **{KEY: "k-1"})
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (422, "idempotency-key-reused")
    another_route = sender.post("slides/upload/start", {"filename": "a.svs", "size": 2 << 20}, **{KEY: "k-1"})
    assert another_route.status_code == 422
    assert len(rows(services, Upload)) == 1


def test_keys_are_ones_own(services: Services, sender: Sender, register_and_login: LogIn) -> None:
    other = Sender(sender.client, register_and_login(sender.client, "somebody-else"))
    mine, theirs = (one.post("uploads", ASKED, **{KEY: "k-1"}).json()["id"] for one in (sender, other))
    assert mine != theirs


def test_what_was_refused_may_be_tried_again_under_its_key(services: Services, sender: Sender) -> None:
    services.settings.max_upload_bytes = 50
    assert sender.post("uploads", ASKED, **{KEY: "k-1"}).status_code == 413
    assert rows(services, IdempotencyKey) == []
    services.settings.max_upload_bytes = 500
    answer = sender.post("uploads", ASKED, **{KEY: "k-1"})
    assert (answer.status_code, answer.headers.get(REPLAYED)) == (201, None)


def test_while_the_first_is_being_answered_the_second_is_told_to_wait(
    services: Services, sender: Sender
) -> None:
    """The first hangs on a lock that this test holds: nothing can be put into `uploads`."""
    with ThreadPoolExecutor(1) as thread:
        with services.database.engine.begin() as connection:
            connection.execute(text("lock table uploads in share mode"))
            first = thread.submit(sender.post, "uploads", ASKED, **{KEY: "k-1"})
            wait_for_a_waiting_insert(services)
            second = sender.post("uploads", ASKED, **{KEY: "k-1"})
            assert (second.status_code, second.headers["retry-after"]) == (409, "1")
            assert second.json()["type"].endswith("/idempotency-key-in-use")
        assert first.result().status_code == 201
    assert sender.post("uploads", ASKED, **{KEY: "k-1"}).headers[REPLAYED] == "true"
    assert len(rows(services, Upload)) == 1


def wait_for_a_waiting_insert(services: Services) -> None:
    query = text(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query ilike 'insert into uploads%' "
        "and datname = current_database()"
    )
    for _ in range(500):
        with services.database.engine.connect() as connection:
            if connection.scalar(query):
                return
        threading.Event().wait(0.02)
    raise AssertionError("no insert waits")


def test_many_at_once_make_one(services: Services, sender: Sender) -> None:
    together = threading.Barrier(6)

    def start(_: int) -> int:
        together.wait()
        status: int = sender.post("uploads", ASKED, **{KEY: "k-1"}).status_code
        return status

    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(start, range(6))) <= {201, 409}
    assert len(rows(services, Upload)) == 1


def test_a_request_that_dies_before_its_commit_leaves_no_answer(services: Services, sender: Sender) -> None:
    with services.database.engine.begin() as owner:
        owner.execute(
            text("create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
        )
        owner.execute(
            text(
                "create constraint trigger refuse after insert on uploads deferrable initially deferred "
                "for each row execute function refuse()"
            )
        )
    assert sender.post("uploads", ASKED, **{KEY: "k-1"}).status_code == 500
    assert rows(services, IdempotencyKey) == []
    with services.database.engine.begin() as owner:
        owner.execute(text("drop trigger refuse on uploads"))
    assert sender.post("uploads", ASKED, **{KEY: "k-1"}).status_code == 201


def age(services: Services, by: timedelta) -> None:
    with services.database.tenant(tenant_of(services)) as session:
        session.execute(update(IdempotencyKey).values(created_at=func.now() - by))


def test_answers_are_kept_for_a_day(services: Services, sender: Sender) -> None:
    first = sender.post("uploads", ASKED, **{KEY: "k-1"}).json()
    age(services, timedelta(hours=23))
    assert clean_idempotency_keys(services) == 0
    assert sender.post("uploads", ASKED, **{KEY: "k-1"}).json() == first
    age(services, timedelta(hours=25))
    assert sender.post("uploads", ASKED, **{KEY: "k-1"}).json()["id"] != first["id"]
    age(services, timedelta(hours=25))
    assert clean_idempotency_keys(services) == 1
    assert rows(services, IdempotencyKey) == []


@pytest.mark.parametrize("key", ["", "x" * 256, "with blank", "\u00e9"])
def test_a_key_is_some_printable_text(sender: Sender, key: str) -> None:
    headers: dict[Any, Any] = {**sender.headers, KEY: key.encode()}
    answer = sender.client.post("/api/uploads", json=ASKED, headers=headers)
    assert (answer.status_code, KEY.lower() in answer.json()["detail"].lower()) == (422, True)


def test_a_form_counts_by_its_fields_and_files_not_by_its_boundary(
    services: Services, sender: Sender
) -> None:
    file = ("files", ("a_t1.nii", nifti()))
    answers = [form(sender, "studies", "k-1", file, duplicate="true", patient_id="P-1") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["location"] == f"/api/studies/{answers[0].json()['id']}"
    for other in (
        form(sender, "studies", "k-1", ("files", ("a_t1.nii", nifti(1))), duplicate="true", patient_id="P-1"),
        form(sender, "studies", "k-1", ("files", ("b_t1.nii", nifti())), duplicate="true", patient_id="P-1"),
        form(sender, "studies", "k-1", file, duplicate="true", patient_id="P-2"),
        form(sender, "studies?x=1", "k-1", file, duplicate="true", patient_id="P-1"),
    ):
        assert other.status_code == 422
    assert len(rows(services, Study)) == len(announced(services)) == 1


def test_every_route_that_makes_something_of_files_takes_a_key(services: Services, sender: Sender) -> None:
    case_id: UUID = make_case(services, "dr-sender")
    nii = ("a_t1.nii", nifti())
    sent: dict[str, Any] = {
        "studies": lambda: form(sender, "studies", "a", ("files", nii), duplicate="true"),
        "process-mri": lambda: form(sender, "process-mri", "b", ("t1", nii), duplicate="true"),
        "segmentation/upload": lambda: form(
            sender, "segmentation/upload", "c", ("file", nii), duplicate="true"
        ),
        "cases": lambda: form(sender, f"cases/{case_id}/upload", "d", ("image", nii), modality="t1"),
        "slides": lambda: sender.post(
            "slides/upload/start", {"filename": "a.svs", "size": 2 << 20}, **{KEY: "e"}
        ),
    }
    for name, send in sent.items():
        first, again = send(), send()
        assert first.status_code in (201, 202), (name, first.text)
        assert (again.status_code, again.json()) == (first.status_code, first.json()), name
        assert (first.headers.get(REPLAYED), again.headers.get(REPLAYED)) == (None, "true"), name
    with services.database.tenant(tenant_of(services)) as session:
        assert session.scalar(select(func.count(StudyFile.id))) == 4
        assert session.scalar(select(func.count(Upload.id))) == 1
