"""Objects that others put into the bucket incoming become studies, once each."""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from starlette.testclient import TestClient

from functions.ingest.objects import remove_taken
from functions.ingest.objects.service import close_settled, take_up
from functions.ingest.objects.sweep import reconcile
from shared.db.models import AuditEntry, FileRole, OutboxEntry, Role, Study, StudyFile, Tenant
from shared.db.models.intake import IncomingObject
from shared.incoming import NotForUs, key_hash, place_of, take_in
from shared.runtime import Services
from shared.runtime.unit import unit_of_work
from shared.security.principal import Principal
from shared.security.sealing import name_ring
from shared.storage.factory import folder_root
from tests.builders import make_tenant, make_user
from tests.unit.shared.events.test_notices import record

NOW = timedelta(0)
TOKEN = {"authorization": "Bearer a-shared-secret"}


@pytest.fixture
def admin(services: Services, tenant_id: UUID) -> Principal:
    return make_user(services.database, tenant_id, Role.ADMIN)


@pytest.fixture
def slug(services: Services, admin: Principal) -> str:
    with services.database.system() as session:
        return session.scalars(select(Tenant.slug).where(Tenant.id == admin.tenant_id)).one()


@pytest.fixture
def client(services: Services, client_for: Callable[..., TestClient]) -> TestClient:
    services.settings.events_token = SecretStr("a-shared-secret")
    return client_for()


def put(services: Services, *keys: str, content: bytes = b"voxels") -> tuple[str, ...]:
    for key in keys:
        services.storage.put("incoming", key, io.BytesIO(content))
    return keys


def tell(services: Services, *keys: str) -> tuple[int, int, int]:
    tally = take_in(services, ((key,) for key in keys), "notice")
    return tally["accepted"], tally["known"], tally["ignored"]


def events(services: Services, tenant_id: UUID, type_: str) -> list[dict[str, Any]]:
    with services.database.system() as session:
        query = select(OutboxEntry.envelope).where(
            OutboxEntry.tenant_id == tenant_id, OutboxEntry.type == f"hounsfield.{type_}"
        )
        return [envelope["data"] for envelope in session.scalars(query.order_by(OutboxEntry.seq))]


def handle(services: Services, tenant_id: UUID, times: int = 1, *, backwards: bool = False) -> None:
    """Deliver every event of an object, those that were delivered before too."""
    told = events(services, tenant_id, "object.created")
    ordered = (reversed(told) if backwards else told) if times == 1 else told * times
    take(services, tenant_id, *(UUID(event["object_id"]) for event in ordered))


def take(services: Services, tenant_id: UUID, *object_ids: UUID) -> None:
    for object_id in object_ids:
        with unit_of_work(services, tenant_id) as unit:
            take_up(unit, object_id)


def studies(services: Services, tenant_id: UUID) -> list[Study]:
    with services.database.tenant(tenant_id) as session:
        found = session.scalars(select(Study).where(Study.tenant_id == tenant_id).order_by(Study.id)).all()
        for study in found:
            study.files.sort(key=lambda file: file.key)
        return list(found)


def announced(services: Services, tenant_id: UUID) -> list[str]:
    return [event["study_id"] for event in events(services, tenant_id, "upload.completed")]


def names(services: Services, study: Study) -> list[str]:
    return sorted(map(services.once(name_ring).filename, study.files))


def test_files_of_one_folder_become_one_study_when_it_has_settled(
    services: Services, admin: Principal, slug: str
) -> None:
    services.settings.settle_seconds = 0
    keys = put(services, *(f"{slug}/brain-mri/Doe, Jane 1970/{n}.nii.gz" for n in ("t1", "t2", "sub/flair")))
    assert tell(services, *keys) == (3, 0, 0)
    handle(services, admin.tenant_id)
    [study] = studies(services, admin.tenant_id)
    assert (study.kind, study.status, study.owner_id) == ("brain-mri", "receiving", admin.user_id)
    assert study.patient_id_source == "generated"
    assert study.name_sealed is not None and b"Doe" not in study.name_sealed
    assert services.once(name_ring).open(study.name_sealed, study.id) == "Doe, Jane 1970"
    assert names(services, study) == ["sub/flair.nii.gz", "t1.nii.gz", "t2.nii.gz"]
    assert {(file.bucket, file.role) for file in study.files} == {("incoming", FileRole.RECEIVED)}
    assert sorted(file.key for file in study.files) == sorted(keys)
    assert announced(services, admin.tenant_id) == []
    assert close_settled(services) == 1
    assert announced(services, admin.tenant_id) == [str(study.id)]
    assert "Doe" not in str(study.intake_key)


def test_a_study_waits_for_more_until_it_was_quiet(services: Services, admin: Principal, slug: str) -> None:
    tell(services, *put(services, f"{slug}/ct/a/1.dcm"))
    handle(services, admin.tenant_id)
    assert close_settled(services) == 0
    tell(services, *put(services, f"{slug}/ct/a/2.dcm"))
    handle(services, admin.tenant_id)
    [study] = studies(services, admin.tenant_id)
    assert len(study.files) == 2


def test_notices_repeated_and_backwards_change_nothing(
    services: Services, admin: Principal, slug: str
) -> None:
    keys = put(services, *(f"{slug}/ct/a/{n}.dcm" for n in range(5)))
    assert tell(services, *keys, *keys) == (5, 5, 0)
    assert tell(services, *reversed(keys)) == (0, 5, 0)
    handle(services, admin.tenant_id, backwards=True)
    handle(services, admin.tenant_id, times=3)
    assert tell(services, *keys) == (0, 5, 0)
    assert reconcile(services, grace=NOW).objects["accepted"] == 0
    [study] = studies(services, admin.tenant_id)
    assert len(study.files) == 5


def test_notices_that_come_at_the_same_moment_are_one(
    services: Services, admin: Principal, slug: str
) -> None:
    keys = put(services, *(f"{slug}/ct/a/{n}.dcm" for n in range(6)))
    with ThreadPoolExecutor(8) as threads:
        orders: Sequence[tuple[str, ...]] = [keys, keys[::-1]] * 4
        tallies = list(threads.map(lambda order: tell(services, *order), orders))
        assert sum(accepted for accepted, _, _ in tallies) == 6
        list(threads.map(lambda _: handle(services, admin.tenant_id), range(6)))
    [study] = studies(services, admin.tenant_id)
    assert len(study.files) == 6
    assert len(events(services, admin.tenant_id, "object.created")) == 6


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("oct", "left eye.e2e"),
        ("auto", "whatever"),
        ("slide", "biopsy.svs"),
        ("ct", "A study/series.tar.gz"),
        ("auto", "A study/all.zip"),
        ("oct", "A study/left.fds"),
        ("slide", "A study/one.ndpi"),
        ("auto", "A study/one.SVS"),
        ("auto", "A study/one.qptiff"),
    ],
)
def test_a_study_of_one_file_is_complete_at_once(
    services: Services, admin: Principal, slug: str, kind: str, path: str
) -> None:
    tell(services, *put(services, f"{slug}/{kind}/{path}"))
    handle(services, admin.tenant_id, times=2)
    [study] = studies(services, admin.tenant_id)
    assert announced(services, admin.tenant_id) == [str(study.id)]
    assert study.kind == (None if kind == "auto" else kind)
    assert study.settle_at is None


@pytest.mark.parametrize("path", ["x/x.mrxs", "x/x/Data0001.dat", "x/1.dcm", "x/scan.png"])
def test_what_comes_in_several_files_waits_for_the_others(
    services: Services, admin: Principal, slug: str, path: str
) -> None:
    tell(services, *put(services, f"{slug}/slide/{path}"))
    handle(services, admin.tenant_id)
    assert announced(services, admin.tenant_id) == []


def test_a_piece_whose_notice_was_lost_joins_its_study_before_that_closes(
    services: Services, admin: Principal, slug: str
) -> None:
    services.settings.settle_seconds = 0
    told, lost, waiting = put(services, *(f"{slug}/ct/Doe 1/{n}.dcm" for n in range(3)))
    put(services, f"{slug}/ct/Doe 1/.DS_Store", f"{slug}/ct/Doe 2/other.dcm")
    tell(services, told)
    handle(services, admin.tenant_id)
    tell(services, waiting)
    assert close_settled(services) == 1
    handle(services, admin.tenant_id, times=2)
    assert tell(services, lost) == (0, 1, 0)
    [study] = studies(services, admin.tenant_id)
    assert names(services, study) == ["0.dcm", "1.dcm", "2.dcm"]
    assert announced(services, admin.tenant_id) == [str(study.id)]


def test_what_is_still_being_written_joins_no_study(services: Services, admin: Principal, slug: str) -> None:
    services.settings.settle_seconds = 0
    told, unfinished = put(services, f"{slug}/ct/a/1.dcm", f"{slug}/ct/a/2.dcm")
    tell(services, told)
    handle(services, admin.tenant_id)
    root = folder_root(services.settings)
    assert root is not None
    with (root / "incoming" / unfinished).open("ab"):
        assert close_settled(services) == 1
    [study] = studies(services, admin.tenant_id)
    assert names(services, study) == ["1.dcm"]
    assert tell(services, unfinished) == (1, 0, 0)


def test_a_sweep_closes_no_study_without_what_it_just_found(
    services: Services, admin: Principal, slug: str
) -> None:
    services.settings.settle_seconds = 0
    keys = put(services, *(f"{slug}/ct/a/{n}.dcm" for n in range(3)))
    tell(services, keys[0])
    handle(services, admin.tenant_id)
    assert reconcile(services, grace=NOW).closed == 1
    handle(services, admin.tenant_id)
    [study] = studies(services, admin.tenant_id)
    assert len(study.files) == 3


def test_the_marker_closes_the_study_at_once_and_goes(
    services: Services, admin: Principal, slug: str
) -> None:
    keys = put(services, f"{slug}/ct/a/1.dcm", f"{slug}/ct/a/2.dcm", f"{slug}/ct/a/_COMPLETE")
    tell(services, *keys)
    handle(services, admin.tenant_id, times=3)
    [study] = studies(services, admin.tenant_id)
    assert len(study.files) == 2
    assert announced(services, admin.tenant_id) == [str(study.id)]
    assert [ref.key for ref in services.storage.list_objects("incoming")] == list(keys[:2])


def test_a_marker_before_its_files_notices_takes_up_what_is_there(
    services: Services, admin: Principal, slug: str
) -> None:
    *files, marker = put(services, f"{slug}/ct/a/1.dcm", f"{slug}/ct/a/2/x.dcm", f"{slug}/ct/a/_COMPLETE")
    put(services, f"{slug}/ct/a/.DS_Store", f"{slug}/ct/ab/other.dcm")
    tell(services, marker)
    handle(services, admin.tenant_id)
    assert tell(services, *files) == (0, 2, 0)
    handle(services, admin.tenant_id)
    [study] = studies(services, admin.tenant_id)
    assert names(services, study) == ["1.dcm", "2/x.dcm"]
    assert announced(services, admin.tenant_id) == [str(study.id)]


def test_a_marker_whose_files_wait_to_be_handled_takes_them_along(
    services: Services, admin: Principal, slug: str
) -> None:
    tell(services, *put(services, f"{slug}/ct/a/1.dcm", f"{slug}/ct/a/2.dcm"))
    tell(services, *put(services, f"{slug}/ct/a/_COMPLETE"))
    handle(services, admin.tenant_id, backwards=True)
    [study] = studies(services, admin.tenant_id)
    assert len(study.files) == 2
    assert announced(services, admin.tenant_id) == [str(study.id)]


def test_a_marker_is_taken_up_while_the_same_objects_are_told_of_again(
    services: Services, admin: Principal, slug: str
) -> None:
    """As where the store's notices come while the watched folder tells of what it sent."""
    with ThreadPoolExecutor(3) as threads:
        for n in range(30):
            keys = put(
                services, *(f"{slug}/ct/{n}/{file}" for file in ("1.dcm", "2.dcm", "3.dcm", "_COMPLETE"))
            )
            tell(services, *keys)
            told = {
                event["key_hash"]: event["object_id"]
                for event in events(services, admin.tenant_id, "object.created")
            }
            marker = UUID(told[key_hash(keys[-1]).hex()])
            taking = threads.submit(take, services, admin.tenant_id, marker)
            again: list[Future[Any]] = [threads.submit(tell, services, *keys) for _ in range(2)]
            for done in (taking, *again):
                done.result()
    found = studies(services, admin.tenant_id)
    assert [len(study.files) for study in found] == [3] * 30


def test_a_marker_of_nothing_makes_no_study(services: Services, admin: Principal, slug: str) -> None:
    tell(services, *put(services, f"{slug}/ct/a/_COMPLETE"))
    handle(services, admin.tenant_id)
    assert studies(services, admin.tenant_id) == []
    assert list(services.storage.list_objects("incoming")) == []


def test_an_object_that_is_replaced_while_its_study_is_open_counts_once_as_it_is_now(
    services: Services, admin: Principal, slug: str
) -> None:
    key = f"{slug}/ct/a/1.dcm"
    tell(services, *put(services, key, content=b"old"))
    handle(services, admin.tenant_id)
    tell(services, *put(services, key, content=b"newer and longer"))
    handle(services, admin.tenant_id, times=2)
    [study] = studies(services, admin.tenant_id)
    assert [file.size for file in study.files] == [len(b"newer and longer")]


def test_an_object_that_is_replaced_before_it_was_taken_up_counts_once_as_it_is_now(
    services: Services, admin: Principal, slug: str
) -> None:
    key = f"{slug}/oct/left.e2e"
    tell(services, *put(services, key, content=b"old"))
    tell(services, *put(services, key, content=b"newer and longer"))
    handle(services, admin.tenant_id, backwards=True)
    [study] = studies(services, admin.tenant_id)
    assert [file.size for file in study.files] == [len(b"newer and longer")]


def test_an_object_that_went_again_makes_no_study(services: Services, admin: Principal, slug: str) -> None:
    [key] = put(services, f"{slug}/oct/left.e2e")
    tell(services, key)
    services.storage.delete("incoming", key)
    handle(services, admin.tenant_id)
    assert studies(services, admin.tenant_id) == []
    assert tell(services, key) == (0, 0, 1)


def test_what_a_study_was_made_of_is_removed_but_not_what_took_its_place(
    services: Services, admin: Principal, slug: str
) -> None:
    keys = put(services, f"{slug}/ct/a/1.dcm", f"{slug}/ct/a/2.dcm")
    tell(services, *keys)
    handle(services, admin.tenant_id)
    [study] = studies(services, admin.tenant_id)
    put(services, keys[1], content=b"of the next study")
    assert remove_taken(services, admin.tenant_id, study.id, keys) == 1
    assert [ref.key for ref in services.storage.list_objects("incoming")] == [keys[1]]


def test_an_object_over_the_limit_stays_where_it_is(services: Services, admin: Principal, slug: str) -> None:
    services.settings.max_upload_bytes = 5
    tell(services, *put(services, f"{slug}/ct/a/1.dcm", f"{slug}/slide/big.svs"))
    handle(services, admin.tenant_id, times=2)
    assert [study.kind for study in studies(services, admin.tenant_id)] == ["slide"]
    with services.database.tenant(admin.tenant_id) as session:
        whys = session.scalars(
            select(IncomingObject.ignored).where(IncomingObject.ignored.is_not(None))
        ).all()
    assert whys == ["larger than the limit of 5 bytes"]


def test_an_object_over_the_limit_keeps_no_other_from_its_study(
    services: Services, admin: Principal, slug: str
) -> None:
    services.settings.max_upload_bytes = 5
    put(services, f"{slug}/ct/a/large.dcm", content=b"too large")
    put(services, f"{slug}/ct/a/small.dcm", content=b"fits")
    tell(services, *put(services, f"{slug}/ct/a/_COMPLETE", content=b""))
    handle(services, admin.tenant_id)
    [study] = studies(services, admin.tenant_id)
    assert names(services, study) == ["small.dcm"]


def test_an_object_without_room_stays_where_it_is(services: Services, admin: Principal, slug: str) -> None:
    services.settings.quota_bytes = 10
    tell(services, *put(services, f"{slug}/ct/1.zip"), *put(services, f"{slug}/ct/2.zip", content=b"v" * 9))
    handle(services, admin.tenant_id)
    assert len(studies(services, admin.tenant_id)) == 1


LONG = "x" * 255


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("uploads/a/b/1", "ours"),
        ("dicom/a/b", "ours"),
        ("README.txt", "clutter"),
        ("file.dcm", "misplaced"),
        ("default/file.dcm", "misplaced"),
        ("default/ct/_COMPLETE", "misplaced"),
        ("default/mri/a/b", "unknown_kind"),
        ("default/ct/a/.b", "clutter"),
        ("default/ct/a/b.part", "clutter"),
        ("default/ct/.a/b", "clutter"),
        ("default/ct/a/Thumbs.db", "clutter"),
        ("default/ct/a/~", "clutter"),
        ("default/ct/../b", "unreadable"),
        ("/default/ct/b", "unreadable"),
        ("default/ct/a//b", "unreadable"),
        ("default/ct/a/", "clutter"),
        ("default/", "clutter"),
        ("default/ct/a\0/b", "unreadable"),
        ("default/ct/a\ud800/b", "unreadable"),
        ("default/ct/" + f"{LONG}/" * 7 + LONG, "unreadable"),
    ],
)
def test_keys_that_are_not_for_us(key: str, why: str) -> None:
    with pytest.raises(NotForUs, match=f"^{why}$"):
        place_of(key)


def test_objects_of_nobody_are_left_alone(services: Services, admin: Principal, slug: str) -> None:
    keys = put(services, "nobody/ct/a/1.dcm", f"{slug}/mri/a/1.dcm", "stray.dcm", f"{slug}/ct/a/x.part")
    assert tell(services, *keys, f"{slug}/ct/a/../x", f"{slug}/ct/not there") == (0, 0, 6)
    swept = reconcile(services, grace=NOW)
    assert (swept.objects["accepted"], swept.objects["ignored"]) == (0, 4)
    assert len(list(services.storage.list_objects("incoming"))) == 4


def test_tenants_are_named_by_id_too_and_see_only_their_own(
    services: Services, admin: Principal, slug: str
) -> None:
    other = make_user(services.database, make_tenant(services.database), Role.ADMIN)
    tell(services, *put(services, f"{other.tenant_id}/ct/a.zip", f"{slug}/ct/a.zip"))
    for tenant_id in (admin.tenant_id, other.tenant_id):
        handle(services, tenant_id)
        [study] = studies(services, tenant_id)
        assert study.tenant_id == tenant_id


def test_a_row_and_its_event_are_there_together_or_not_at_all(
    services: Services, admin: Principal, slug: str
) -> None:
    keys = put(services, f"{slug}/ct/a/1.dcm", f"{slug}/ct/a/2.dcm")
    with services.database.engine.begin() as owner:
        owner.execute(
            text(
                "create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$; "
                "create constraint trigger refuse after insert on outbox deferrable initially deferred "
                "for each row execute function refuse()"
            )
        )
    try:
        with pytest.raises(DBAPIError):
            tell(services, *keys)
    finally:
        with services.database.engine.begin() as owner:
            owner.execute(text("drop function refuse cascade"))
    assert tell(services, *keys) == (2, 0, 0)
    assert len(events(services, admin.tenant_id, "object.created")) == 2


def test_the_sweep_finds_what_no_notice_told_of(services: Services, admin: Principal, slug: str) -> None:
    services.settings.settle_seconds = 0
    keys = put(services, *(f"{slug}/ct/a/{n}.dcm" for n in range(3)), f"{slug}/oct/left.e2e")
    tell(services, keys[0])
    assert reconcile(services).objects == {"young": 4, "ignored": 0}
    dry = reconcile(services, dry_run=True, grace=NOW)
    assert (dry.objects["accepted"], dry.objects["known"]) == (3, 1)
    assert len(events(services, admin.tenant_id, "object.created")) == 1
    with ThreadPoolExecutor(4) as threads:
        swept = list(threads.map(lambda _: reconcile(services, grace=NOW), range(4)))
    assert sum(one.objects["accepted"] for one in swept) == 3
    handle(services, admin.tenant_id)
    assert reconcile(services, grace=NOW).closed == 1
    assert len(studies(services, admin.tenant_id)) == 2
    assert len(announced(services, admin.tenant_id)) == 2


def test_what_is_long_gone_is_forgotten_and_what_is_there_is_not(
    services: Services, admin: Principal, slug: str
) -> None:
    kept, gone = put(services, f"{slug}/ct/a.zip", f"{slug}/ct/b.zip")
    tell(services, kept, gone)
    handle(services, admin.tenant_id)
    services.storage.delete("incoming", gone)
    with services.database.engine.begin() as owner:
        owner.execute(text("update incoming_objects set updated_at = now() - interval '8 days'"))
    assert reconcile(services, grace=NOW).forgotten == 1
    assert tell(services, kept) == (0, 1, 0)


def test_making_a_study_is_in_the_audit_log_without_an_actor(
    services: Services, admin: Principal, slug: str
) -> None:
    tell(services, *put(services, f"{slug}/ct/a/1.dcm", f"{slug}/ct/a/2.dcm"))
    handle(services, admin.tenant_id)
    with services.database.tenant(admin.tenant_id) as session:
        rows = session.scalars(select(AuditEntry)).all()
    assert [(row.action, row.actor_id, row.details) for row in rows] == [
        ("study.create", None, {"by": "bucket"})
    ]


def test_notices_come_by_http(client: TestClient, services: Services, admin: Principal, slug: str) -> None:
    bucket = f"{services.settings.bucket_prefix}incoming"
    [key] = put(services, f"{slug}/ct/Doe Jane/1 +2.dcm")
    notice = record(f"{slug}/ct/Doe+Jane/1+%2B2.dcm")
    notice["s3"]["bucket"]["name"] = bucket
    other = record(key)
    removed = {**notice, "eventName": "ObjectRemoved:Delete"}
    for accepted, known in ((1, 1), (0, 2), (0, 2)):
        answer = client.post("/events", headers=TOKEN, json={"Records": [notice, other, removed, notice]})
        assert answer.status_code == 202
        assert answer.json() == {"accepted": accepted, "known": known, "ignored": 2}
    with services.database.tenant(admin.tenant_id) as session:
        assert session.scalars(select(IncomingObject.key)).all() == [key]
        assert session.scalars(select(StudyFile)).all() == []
