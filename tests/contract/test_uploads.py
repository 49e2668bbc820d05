"""Uploads in parts: started, signed, sent to their URLs, finished, resumed, given up; and every refusal on the way."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import OperationalError

from functions.auth.accounts.service import ensure_admin
from functions.upload.expiry import expire_uploads
from functions.upload.parts import service
from functions.upload.parts.schemas import FinishRequest
from shared.db.models import (
    AuditEntry,
    Role,
    Study,
    StudyFile,
    Upload,
    User,
)
from shared.ids import uuid7
from shared.quota import used_bytes
from shared.runtime import Services
from shared.runtime.unit import unit_of_work
from shared.security.principal import Principal
from shared.security.sealing import name_ring
from shared.storage.port import UploadNotFound
from tests.builders import make_tenant
from tests.contract.conftest import PASSWORD
from tests.contract.sending import (
    MIB,
    NAME,
    PART,
    Sender,
    announced,
    content,
    make_case,
    objects_in,
    rows,
    tenant_of,
)


def test_a_file_sent_in_parts_becomes_a_study(services: Services, sender: Sender) -> None:
    data = content(2 * PART + 1000)
    started = sender.start(len(data), kind="ct", patient_id="P-1", scan_date="2026-03-05")
    assert (started["status"], started["part_bytes"], started["part_count"]) == ("open", PART, 3)
    assert (started["received"], started["received_bytes"], started["study_id"]) == ([], 0, None)
    parts = sender.send(started, data)
    answer = sender.finish(started, parts=parts)
    assert answer.status_code == 202, answer.text
    finished = answer.json()
    assert answer.headers["location"] == f"/api/studies/{finished['study_id']}"
    assert (finished["status"], finished["received_bytes"]) == ("finished", len(data))
    assert (finished["expires_at"], finished["part_count"]) == (None, 3)
    [study] = rows(services, Study)
    assert (str(study.id), study.kind, study.status) == (finished["study_id"], "ct", "receiving")
    assert (study.patient_id, str(study.scan_date), study.digest) == ("P-1", "2026-03-05", None)
    [file] = rows(services, StudyFile)
    assert (file.size, file.role, file.sha256, file.study_id) == (len(data), "received", None, study.id)
    assert (services.once(name_ring).filename(file), file.details) == (NAME, {})
    assert services.storage.read(file.bucket, file.key) == data
    assert announced(services) == [str(study.id)]


def test_parts_may_come_in_any_order_and_again_and_those_received_are_taken(
    services: Services, sender: Sender
) -> None:
    data = content(2 * PART + 77)
    started = sender.start(len(data))
    sender.send(started, content(len(data), seed=2), 2)
    sender.send(started, data, 3, 2, 1)
    assert sender.finish(started).status_code == 202
    [file] = rows(services, StudyFile)
    assert services.storage.read(file.bucket, file.key) == data


def test_after_a_crash_the_parts_that_are_there_are_told(sender: Sender) -> None:
    data = content(2 * PART + 77)
    started = sender.start(len(data))
    sent = sender.send(started, data, 1, 3)
    found = sender.get(f"uploads/{started['id']}").json()
    assert [part["number"] for part in found["received"]] == [1, 3]
    assert [part["size"] for part in found["received"]] == [PART, 77]
    assert [f'"{part["etag"]}"' for part in found["received"]] == [part["etag"] for part in sent]
    assert found["received_bytes"] == PART + 77
    sender.send(started, data, 2)
    assert sender.finish(started).status_code == 202


def test_a_finish_is_answered_the_same_again(services: Services, sender: Sender) -> None:
    data = content(1000)
    started = sender.start(len(data))
    sender.send(started, data)
    first, again = sender.finish(started), sender.finish(started)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == first.json() == sender.get(f"uploads/{started['id']}").json()
    assert again.headers["location"] == first.headers["location"]
    assert len(rows(services, Study)) == len(announced(services)) == 1


def test_two_finishes_at_once_make_one_study(services: Services, sender: Sender) -> None:
    data = content(1000)
    started = sender.start(len(data))
    sender.send(started, data)
    together = threading.Barrier(4)

    def finish(_: int) -> tuple[int, str]:
        together.wait()
        answer = sender.finish(started)
        return answer.status_code, answer.json()["study_id"]

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(finish, range(4)))
    assert sorted(status for status, _ in answers) == [200, 200, 200, 202]
    assert len({study for _, study in answers}) == 1
    assert len(rows(services, Study)) == len(announced(services)) == 1


def test_a_kill_between_the_stores_work_and_the_commit_loses_nothing(
    services: Services, sender: Sender
) -> None:
    data = content(2 * PART + 5)
    started = sender.start(len(data))
    parts = sender.send(started, data)
    with pytest.raises(OperationalError):
        finish_and_lose_the_connection(services, started["id"])
    assert objects_in(services) == [rows(services, Upload)[0].key]
    assert (rows(services, Study), announced(services)) == ([], [])
    found = sender.get(f"uploads/{started['id']}").json()
    assert (found["status"], found["received_bytes"]) == ("open", len(data))
    assert [part["etag"] for part in found["received"]] == [None] * 3
    answer = sender.finish(started, parts=parts)
    assert answer.status_code == 202
    [file] = rows(services, StudyFile)
    assert services.storage.read(file.bucket, file.key) == data
    assert announced(services) == [answer.json()["study_id"]]


def finish_and_lose_the_connection(services: Services, upload_id: str) -> None:
    """All that the route does but the commit: before that, the database ends the connection."""
    tenant_id = tenant_of(services)
    with services.database.tenant(tenant_id) as session:
        owner = session.scalars(select(User).where(User.username == "dr-sender")).one()
        principal = Principal(owner.id, tenant_id, Role(owner.role))
    with unit_of_work(services, tenant_id) as unit:
        upload = service.lock(unit, principal, UUID(upload_id))
        assert service.finish(unit, principal, upload, FinishRequest())
        pid = unit.session.scalar(text("select pg_backend_pid()"))
        with services.database.engine.connect() as owner_connection:
            owner_connection.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})


def test_an_upload_may_be_finished_without_a_study_and_become_one_later(
    services: Services, sender: Sender
) -> None:
    data = content(1000)
    started = sender.start(len(data))
    sender.send(started, data)
    first = sender.finish(started, study=False)
    assert (first.status_code, first.json()["study_id"], first.json()["status"]) == (202, None, "finished")
    assert first.json()["expires_at"] > datetime.now(UTC).isoformat()
    assert sender.finish(started, study=False).status_code == 200
    assert rows(services, Study) == []
    later = sender.finish(started)
    assert (later.status_code, later.json()["study_id"]) == (202, str(rows(services, Study)[0].id))


def test_a_declared_hash_goes_with_the_file_for_ingest_to_check(services: Services, sender: Sender) -> None:
    data = content(1000)
    sha256 = hashlib.sha256(data).hexdigest()
    sender.whole(data, sha256=sha256.upper())
    [file] = rows(services, StudyFile)
    assert (file.details, file.sha256) == ({"declared_sha256": sha256}, None)


def test_a_hash_may_be_declared_at_the_end_but_not_another_one(services: Services, sender: Sender) -> None:
    data = content(1000)
    sha256 = hashlib.sha256(data).hexdigest()
    for declared in ({}, {"sha256": sha256}):
        started = sender.start(len(data), duplicate=True, **declared)
        sender.send(started, data)
        assert sender.finish(started, sha256=sha256).status_code == 202
    assert [file.details for file in rows(services, StudyFile)] == [{"declared_sha256": sha256}] * 2
    other = sender.start(len(data), sha256=sha256)
    sender.send(other, data)
    refused = sender.finish(other, sha256="0" * 64)
    assert (refused.status_code, "another one was declared" in refused.json()["detail"]) == (409, True)


def test_a_repeated_finish_takes_the_same_hash_or_none_but_no_other(sender: Sender) -> None:
    data = content(1000)
    sha256 = hashlib.sha256(data).hexdigest()
    started = sender.start(len(data))
    sender.send(started, data)
    first = sender.finish(started, sha256=sha256)
    for said in ({}, {"sha256": sha256}, {"sha256": sha256.upper()}):
        again = sender.finish(started, **said)
        assert (again.status_code, again.json()) == (200, first.json())
    refused = sender.finish(started, sha256="0" * 64)
    assert (refused.status_code, "another one was declared" in refused.json()["detail"]) == (409, True)
    assert sender.finish(started).status_code == 200


def test_a_hash_counts_until_there_is_a_study(services: Services, sender: Sender) -> None:
    data = content(1000)
    sha256 = hashlib.sha256(data).hexdigest()
    waiting, given = sender.start(len(data)), sender.start(len(data), duplicate=True)
    for started in (waiting, given):
        sender.send(started, data)
    assert sender.finish(waiting, study=False).status_code == 202
    assert sender.finish(waiting, study=False, sha256=sha256).status_code == 200
    assert sender.finish(waiting, study=False, sha256="0" * 64).status_code == 409
    assert sender.finish(waiting).status_code == 202
    [file] = rows(services, StudyFile)
    assert file.details == {"declared_sha256": sha256}
    assert sender.finish(given).status_code == 202
    late = sender.finish(given, sha256=sha256)
    assert (late.status_code, "too late" in late.json()["detail"]) == (409, True)


def test_a_file_that_is_known_by_its_declared_hash_is_the_same_study(
    services: Services, sender: Sender, stranger: Sender
) -> None:
    data = content(1000)
    declared = {"sha256": hashlib.sha256(data).hexdigest()}
    first, again = sender.whole(data, **declared), sender.whole(data, **declared)
    assert first.json()["study_id"] == again.json()["study_id"]
    assert len(announced(services)) == 1
    other_kind = sender.whole(data, kind="oct", **declared)
    assert other_kind.status_code == 202, "the first was of no kind yet"
    asked = sender.whole(data, duplicate=True, **declared)
    others = stranger.whole(data, **declared)
    assert len({first.json()["study_id"], asked.json()["study_id"], others.json()["study_id"]}) == 3


def test_a_known_file_of_another_kind_is_no_match(services: Services, sender: Sender) -> None:
    data = content(1000)
    declared = {"sha256": hashlib.sha256(data).hexdigest()}
    first = sender.whole(data, kind="ct", **declared).json()
    refused = sender.whole(data, kind="oct", **declared)
    assert refused.status_code == 409
    assert first["study_id"] in refused.json()["detail"]
    assert "duplicate=true" in refused.json()["detail"]


def test_what_only_a_slide_can_be_is_taken_for_one(sender: Sender) -> None:
    assert sender.post("uploads", {"filename": "a.SVS", "size": 2 << 30}).json()["kind"] == "slide"
    assert sender.post("uploads", {"filename": "a.zip", "size": 2 << 30}).status_code == 413
    assert sender.post("uploads", {"filename": "a.svs", "size": 20 * MIB}).json()["kind"] is None


def test_the_sender_chooses_the_parts_or_leaves_it(sender: Sender) -> None:
    chosen = sender.post("uploads", {"fileName": "a.zip", "size": 20 * MIB, "partBytes": 6 * MIB}).json()
    assert (chosen["part_bytes"], chosen["part_count"]) == (6 * MIB, 4)
    left = sender.post("uploads", {"filename": "a.zip", "size": 20 * MIB}).json()
    assert (left["part_bytes"], left["part_count"]) == (16 * MIB, 2)
    large = sender.post("uploads", {"filename": "a.svs", "size": 50 << 30, "kind": "slide"}).json()
    assert (large["part_bytes"], large["part_count"]) == (16 * MIB, 3200)


REFUSED_AT_THE_START: dict[str, tuple[dict[str, Any], int, str]] = {
    "nothing": ({"size": 0}, 422, "size"),
    "no name": ({"filename": ""}, 422, "filename"),
    "parts that S3 does not take": ({"part_bytes": 5 * MIB - 1}, 422, "part_bytes"),
    "too many parts": ({"size": 50 << 30, "kind": "slide"}, 422, "10,240 of them"),
    "more than a request may have": ({"size": (1 << 30) + 1}, 413, "1,073,741,824"),
    "more than a slide may have": ({"size": (50 << 30) + 1, "kind": "slide"}, 413, "53,687,091,200"),
    "a CT as large as a slide": ({"size": 2 << 30, "kind": "ct"}, 413, "anything but a slide"),
    "a slide as small as an icon": ({"size": (1 << 20) - 1, "kind": "slide"}, 422, "1,048,576 or more"),
    "a kind that there is not": ({"kind": "x-ray"}, 422, "kind"),
    "a hash that is none": ({"sha256": "abc"}, 422, "sha256"),
    "a patient's id that is a path": ({"patient_id": "../etc"}, 422, "patient_id"),
    "a day that is none": ({"scan_date": "2026-02-30"}, 422, "scan_date"),
    "a sequence that there is not": ({"modality": "dwi"}, 422, "modality"),
    "a media type that is none": ({"media_type": "image"}, 422, "media_type"),
    "a case that there is not": ({"case_id": str(uuid7())}, 404, "no case"),
}


@pytest.mark.parametrize("what", REFUSED_AT_THE_START)
def test_what_cannot_be_taken_is_refused_before_anything_is_sent(
    services: Services, sender: Sender, what: str
) -> None:
    fields, status, says = REFUSED_AT_THE_START[what]
    answer = sender.post("uploads", {"filename": NAME, "size": 100, "part_bytes": PART, **fields})
    assert (answer.status_code, says in answer.json()["detail"]) == (status, True), answer.text
    assert "QUIBBLEWORTH" not in answer.text
    assert rows(services, Upload) == []


def test_the_limit_says_that_a_slide_may_be_larger(sender: Sender) -> None:
    answer = sender.post("uploads", {"filename": "a.tif", "size": 2 << 30})
    assert answer.status_code == 413
    assert "kind=slide: 53,687,091,200" in answer.json()["detail"]
    assert answer.json()["limit_bytes"] == 1 << 30


def test_missing_parts_are_named(services: Services, sender: Sender) -> None:
    data = content(4 * PART)
    started = sender.start(len(data))
    sender.send(started, data, 1, 3)
    answer = sender.finish(started)
    assert (answer.status_code, answer.json()["missing"]) == (409, [2, 4])
    assert "2 of the upload's 4 parts were not received: 2, 4" in answer.json()["detail"]
    assert (rows(services, Study), rows(services, Upload)[0].status) == ([], "open")


def test_a_part_of_another_size_is_named(sender: Sender) -> None:
    started = sender.start(PART + 1000)
    [first, last] = sender.post(f"uploads/{started['id']}/parts", {"numbers": [1, 2]}).json()["parts"]
    assert (first["size"], last["size"]) == (PART, 1000)
    sender.client.put(first["url"], content=content(PART))
    sender.client.put(last["url"], content=content(999))
    answer = sender.finish(started)
    assert answer.status_code == 409
    assert "Part 2 has 999 bytes, not 1,000" in answer.json()["detail"]


def test_named_parts_are_held_against_those_received(sender: Sender) -> None:
    data = content(PART + 1000)
    started = sender.start(len(data))
    one, two = sender.send(started, data)
    wrong: list[tuple[list[dict[str, Any]], int, str]] = [
        ([two, one], 409, "ascending"),
        ([one, one], 409, "ascending"),
        ([one], 409, "Part 2 was received but is not named"),
        ([one, two | {"etag": one["etag"]}], 409, "another ETag"),
        ([one, two | {"size": 1}], 409, "1000 bytes, not 1"),
        ([one, two, {"number": 3, "etag": "x"}], 422, "none of number 3"),
        ([one, two | {"number": 0}], 422, "greater than or equal to 1"),
        ([], 422, "at least 1"),
    ]
    for parts, status, says in wrong:
        answer = sender.finish(started, parts=parts)
        assert (answer.status_code, says in answer.json()["detail"]) == (status, True), answer.text
    named = [{"PartNumber": part["number"], "ETag": part["etag"]} for part in (one, two)]
    assert sender.finish(started, parts=named).status_code == 202


@pytest.mark.parametrize(
    ("numbers", "says"),
    [([4], "none of number 4"), ([0], "greater than"), ([], "at least 1"), ([1] * 1001, "at most 1000")],
)
def test_only_parts_that_there_are_get_signed(sender: Sender, numbers: list[int], says: str) -> None:
    started = sender.start(2 * PART + 1)
    answer = sender.post(f"uploads/{started['id']}/parts", {"numbers": numbers})
    assert (answer.status_code, says in answer.json()["detail"]) == (422, True), answer.text


def test_nothing_more_is_signed_once_an_upload_has_ended(sender: Sender) -> None:
    finished, aborted = sender.start(10), sender.start(10)
    sender.send(finished, content(10))
    sender.finish(finished)
    sender.delete(f"uploads/{aborted['id']}")
    for started, status in ((finished, "finished"), (aborted, "aborted")):
        answer = sender.post(f"uploads/{started['id']}/parts", {"numbers": [1]})
        assert (answer.status_code, f"is {status}" in answer.json()["detail"]) == (409, True)
    assert sender.finish(aborted).status_code == 409


def test_what_is_given_up_leaves_nothing(services: Services, sender: Sender) -> None:
    data = content(PART + 1000)
    started = sender.start(len(data))
    sender.send(started, data, 1)
    url = sender.post(f"uploads/{started['id']}/parts", {"numbers": [2]}).json()["parts"][0]["url"]
    assert sender.delete(f"uploads/{started['id']}").status_code == 204
    assert sender.delete(f"uploads/{started['id']}").status_code == 204
    assert sender.client.put(url, content=data[PART:]).status_code == 404
    found = sender.get(f"uploads/{started['id']}").json()
    assert (found["status"], found["received"]) == ("aborted", [])
    whole = sender.start(10)
    sender.send(whole, content(10))
    sender.finish(whole, study=False)
    assert len(objects_in(services)) == 1
    assert sender.delete(f"uploads/{whole['id']}").status_code == 204
    assert objects_in(services) == []


def test_what_became_a_study_is_not_given_up_as_an_upload(services: Services, sender: Sender) -> None:
    finished = sender.whole(content(10)).json()
    answer = sender.delete(f"uploads/{finished['id']}")
    assert (answer.status_code, finished["study_id"] in answer.json()["detail"]) == (409, True)
    assert len(objects_in(services)) == 1


def set_expiry(services: Services, upload_id: str, moment: Any) -> None:
    with services.database.tenant(tenant_of(services)) as session:
        session.execute(update(Upload).where(Upload.id == UUID(upload_id)).values(expires_at=moment))


def test_an_upload_that_nobody_finishes_expires_with_its_parts(services: Services, sender: Sender) -> None:
    data = content(PART + 1000)
    started, other = sender.start(len(data)), sender.start(len(data))
    hours = datetime.fromisoformat(started["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=47.9) < hours < timedelta(hours=48)
    sender.send(started, data, 1)
    sender.send(other, data, 1)
    assert expire_uploads(services) == 0
    set_expiry(services, started["id"], func.now())
    for refused in (
        sender.post(f"uploads/{started['id']}/parts", {"numbers": [1]}),
        sender.finish(started),
    ):
        assert (refused.status_code, "has expired" in refused.json()["detail"]) == (409, True)
    told = sender.get(f"uploads/{started['id']}").json()  # before its bytes were removed
    assert (told["status"], told["received"], told["received_bytes"]) == ("expired", [], 0)
    [row] = [row for row in rows(services, Upload) if str(row.id) == started["id"]]
    assert len(services.storage.list_parts("incoming", row.key, row.storage_id)) == 1
    assert expire_uploads(services) == 1
    with pytest.raises(UploadNotFound):
        services.storage.list_parts("incoming", row.key, row.storage_id)
    assert sender.get(f"uploads/{started['id']}").json()["status"] == "expired"
    assert sender.get(f"uploads/{other['id']}").json()["received_bytes"] == PART
    assert expire_uploads(services) == 0


def test_a_finished_upload_that_became_no_study_expires_too(services: Services, sender: Sender) -> None:
    unwanted, wanted = sender.start(10), sender.start(10)
    for started in (unwanted, wanted):
        sender.send(started, content(10))
    sender.finish(unwanted, study=False)
    sender.finish(wanted)
    assert len(objects_in(services)) == 2
    set_expiry(services, unwanted["id"], func.now())
    statuses = {upload["id"]: upload["status"] for upload in sender.get("uploads").json()["items"]}
    assert statuses == {unwanted["id"]: "expired", wanted["id"]: "finished"}
    assert expire_uploads(services) == 1
    assert objects_in(services) == [file.key for file in rows(services, StudyFile)]
    assert sender.finish(unwanted).status_code == 409


def test_an_upload_that_is_being_finished_does_not_expire(services: Services, sender: Sender) -> None:
    started = sender.start(10)
    sender.send(started, content(10))
    set_expiry(services, started["id"], func.now())
    with services.database.tenant(tenant_of(services)) as session:
        session.execute(select(Upload.id).with_for_update())
        assert expire_uploads(services) == 0
    assert expire_uploads(services) == 1


def test_the_file_of_a_deleted_study_makes_no_other(services: Services, sender: Sender) -> None:
    finished = sender.whole(content(10)).json()
    with services.database.tenant(tenant_of(services)) as session:
        session.execute(delete(Study).where(Study.id == UUID(finished["study_id"])))
    services.storage.delete_prefix("incoming", "uploads/")
    again = sender.finish(finished)
    assert (again.status_code, "there no longer" in again.json()["detail"]) == (409, True)


def test_ended_uploads_are_listed_for_a_week(services: Services, sender: Sender) -> None:
    ended, open_ = sender.start(10), sender.start(10)
    sender.delete(f"uploads/{ended['id']}")
    expire_uploads(services)
    listed = sender.get("uploads").json()
    assert [item["id"] for item in listed["items"]] == [open_["id"], ended["id"]]
    assert "received" not in listed["items"][0]
    with services.database.engine.begin() as connection:
        connection.execute(text("update uploads set updated_at = now() - interval '8 days'"))
    expire_uploads(services)
    assert [item["id"] for item in sender.get("uploads").json()["items"]] == [open_["id"]]


def test_lists_are_paged(sender: Sender) -> None:
    ids = [sender.start(10)["id"] for _ in range(3)]
    page = sender.get("uploads?limit=2")
    assert [item["id"] for item in page.json()["items"]] == ids[:0:-1]
    assert 'rel="next"' in page.headers["link"]
    rest = sender.get(f"uploads?cursor={page.json()['next_cursor']}").json()
    assert ([item["id"] for item in rest["items"]], rest["next_cursor"]) == (ids[:1], None)


def test_anybody_elses_upload_is_none(services: Services, sender: Sender, stranger: Sender) -> None:
    started = sender.start(10)
    sender.send(started, content(10))
    for named in (started["id"], str(uuid7())):
        for answer in (
            stranger.get(f"uploads/{named}"),
            stranger.post(f"uploads/{named}/parts", {"numbers": [1]}),
            stranger.post(f"uploads/{named}/finish"),
            stranger.delete(f"uploads/{named}"),
        ):
            assert (answer.status_code, answer.json()["detail"]) == (404, f"no upload {named}")
    assert stranger.get("uploads").json()["items"] == []
    assert rows(services, Upload)[0].status == "open"


def test_an_administrator_sees_the_tenants_uploads_and_those_of_no_other(
    services: Services, sender: Sender
) -> None:
    started = sender.start(10)
    sender.send(started, content(10))
    make_tenant(services.database, "elsewhere")
    for tenant, seen in (("elsewhere", []), ("default", [started["id"]])):
        ensure_admin(services, f"{tenant}@hospital.example", PASSWORD, tenant)
        login = {"login": f"{tenant}@hospital.example", "password": PASSWORD}
        token = sender.client.post("/api/auth/login", json=login).json()["access_token"]
        admin = Sender(sender.client, {"Authorization": f"Bearer {token}"})
        assert [item["id"] for item in admin.get("uploads").json()["items"]] == seen
        assert admin.get(f"uploads/{started['id']}").status_code == (200 if seen else 404)
        assert admin.finish(started).status_code == (202 if seen else 404)
    [study] = rows(services, Study)
    assert study.owner_id == rows(services, Upload)[0].owner_id, "whoever finishes it, it stays its sender's"


def test_an_upload_for_a_case_becomes_a_study_of_its_patient(
    services: Services, sender: Sender, stranger: Sender
) -> None:
    case_id = str(make_case(services, "dr-sender"))
    finished = sender.whole(content(10), case_id=case_id)
    assert finished.status_code == 202, finished.text
    [study] = rows(services, Study)
    assert (str(study.case_id), study.patient_id, study.patient_id_source) == (case_id, "C-17", "given")
    not_theirs = stranger.post("uploads", {"filename": "a.zip", "size": 10, "caseId": case_id})
    assert (not_theirs.status_code, not_theirs.json()["detail"]) == (404, f"no case {case_id}")


def test_names_are_in_no_row_key_log_or_answer(
    services: Services, sender: Sender, capsys: pytest.CaptureFixture[str]
) -> None:
    started = sender.start(10, patient_name="Zacharias Quibbleworth", kind="oct")
    sender.send(started, content(10))
    answers = [sender.get(f"uploads/{started['id']}"), sender.get("uploads"), sender.finish(started)]
    sender.start(10)
    tenant_id = tenant_of(services)
    with services.database.tenant(tenant_id) as session:
        tables = "uploads", "studies", "study_files", "outbox", "audit_log"
        stored = [str(session.execute(text(f"select * from {table}")).all()) for table in tables]
    said = " ".join([*(answer.text for answer in answers), *stored, *objects_in(services)])
    said += capsys.readouterr().out
    assert "QUIBBLEWORTH" not in said.upper()
    [study] = rows(services, Study)
    names = services.once(name_ring)
    assert names.open_if_possible(study.patient_name_sealed, study.id) == "Zacharias Quibbleworth"


def test_what_was_done_is_recorded(services: Services, sender: Sender) -> None:
    sender.whole(content(10), kind="ct", patient_id="P-1")
    given_up = sender.start(10)
    sender.delete(f"uploads/{given_up['id']}")
    with services.database.tenant(tenant_of(services)) as session:
        entries = session.scalars(select(AuditEntry).order_by(AuditEntry.seq)).all()
    done = [entry.action for entry in entries if entry.action.split(".")[0] in ("upload", "study")]
    assert done == ["upload.start", "upload.finish", "study.create", "upload.start", "upload.abort"]
    [begun] = [entry for entry in entries if entry.action == "upload.start"][:1]
    assert (begun.patient_id, begun.details) == ("P-1", {"size": 10, "kind": "ct"})


def set_quota(services: Services, quota: int | None) -> None:
    with services.database.engine.begin() as connection:
        connection.execute(text("update tenants set quota_bytes = :quota"), {"quota": quota})


def used(services: Services) -> int:
    with services.database.tenant(tenant_of(services)) as session:
        return used_bytes(session)


def test_a_tenants_quota_counts_what_is_there_and_what_was_announced(
    services: Services, sender: Sender, stranger: Sender
) -> None:
    set_quota(services, 1000)
    sender.whole(content(300))
    kept = sender.start(300)
    sender.send(kept, content(300))
    sender.finish(kept, study=False)
    open_ = stranger.start(300)
    assert used(services) == 900
    refused = stranger.post("uploads", {"filename": NAME, "size": 101})
    assert (refused.status_code, refused.json()["used_bytes"], refused.json()["limit_bytes"]) == (
        413,
        900,
        1000,
    )
    assert refused.json()["type"].endswith("/quota-exceeded")
    assert "the limit is 1,000 bytes" in refused.json()["detail"]
    stranger.delete(f"uploads/{open_['id']}")
    assert stranger.start(400)["status"] == "open"


def test_the_settings_quota_is_for_tenants_without_one(services: Services, sender: Sender) -> None:
    services.settings.quota_bytes = 100
    assert sender.post("uploads", {"filename": NAME, "size": 101}).status_code == 413
    set_quota(services, 1000)
    assert sender.post("uploads", {"filename": NAME, "size": 101}).status_code == 201


def test_many_starts_at_once_do_not_pass_the_quota_together(services: Services, sender: Sender) -> None:
    set_quota(services, 1000)
    together = threading.Barrier(8)

    def start(_: int) -> int:
        together.wait()
        status: int = sender.post("uploads", {"filename": NAME, "size": 300}).status_code
        return status

    with ThreadPoolExecutor(8) as threads:
        statuses = sorted(threads.map(start, range(8)))
    assert statuses == [201] * 3 + [413] * 5
    assert used(services) == 900


def test_a_deleted_study_gives_its_room_back(services: Services, sender: Sender) -> None:
    finished = sender.whole(content(300)).json()
    with services.database.tenant(tenant_of(services)) as session:
        session.execute(delete(Study).where(Study.id == UUID(finished["study_id"])))
    assert used(services) == 0
