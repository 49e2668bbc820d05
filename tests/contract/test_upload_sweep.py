"""What the sweep removes, and above all what it does not."""

from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, select, text
from sqlalchemy.exc import DBAPIError

from functions.dicom.sweep import sweep_instances
from functions.upload.brain_mri.service import receive_mri
from functions.upload.parts.schemas import UploadRequest
from functions.upload.parts.service import start
from functions.upload.parts.sweep import sweep_unfinished
from functions.upload.receiving import Incoming
from functions.upload.sweep import sweep_incoming, sweep_orphans
from shared.db.models import Study, StudyFile, StudyStatus, Upload, UploadStatus
from shared.ids import uuid7
from shared.intake import Patient
from shared.runtime import Services
from shared.runtime.unit import unit_of_work
from shared.security.principal import Principal
from shared.storage.port import Bucket
from shared.sweep import BATCH
from tests.builders import make_tenant, make_user
from tests.contract.test_brain_upload import nifti, voxels

NOW = timedelta(0)
HOUR = timedelta(hours=1)


@pytest.fixture
def sender(services: Services, tenant_id: UUID) -> Principal:
    return make_user(services.database, tenant_id)


def aged(id: UUID, hours: float = 2) -> UUID:
    """The version 7 UUID that would have been made `hours` earlier."""
    return UUID(int=id.int - (int(hours * 3_600_000) << 80))


def upload(services: Services, sender: Principal, content: bytes) -> Study:
    files = [Incoming(BytesIO(content), "a_flair.nii", None)]
    with unit_of_work(services, sender.tenant_id) as unit:
        return receive_mri(unit, sender, files, Patient(), duplicate=False).study


def store(services: Services, tenant: UUID | str, study: UUID | str) -> str:
    return services.storage.put("studies", f"{tenant}/{study}/volume/{uuid7()}.nii", b"voxels").key


def stored(services: Services, bucket: Bucket = "studies") -> list[str]:
    return [ref.key for ref in services.storage.list_objects(bucket)]


def test_objects_without_a_study_go_and_those_of_a_study_stay(services: Services, sender: Principal) -> None:
    kept = upload(services, sender, nifti())
    known = store(services, sender.tenant_id, kept.id)
    result = services.storage.put("studies", f"{sender.tenant_id}/{kept.id}/results/x/mask", b"mask").key
    orphan = aged(uuid7())
    store(services, sender.tenant_id, orphan)
    store(services, sender.tenant_id, orphan)
    assert sweep_orphans(services, NOW) == 1
    assert stored(services) == sorted([known, result])
    assert sweep_orphans(services, NOW) == 0


def test_age_is_counted_from_the_making_of_the_studys_id(services: Services, sender: Principal) -> None:
    young = store(services, sender.tenant_id, aged(uuid7(), hours=0.9))
    store(services, sender.tenant_id, aged(uuid7(), hours=1.1))
    assert sweep_orphans(services) == 1
    assert stored(services) == [young]


def test_what_is_left_of_a_rejected_study_goes(services: Services, sender: Principal) -> None:
    study = upload(services, sender, nifti())
    store(services, sender.tenant_id, study.id)
    with services.database.tenant(sender.tenant_id) as session:
        session.get_one(Study, study.id).status = StudyStatus.REJECTED
    assert sweep_orphans(services, HOUR) == 0
    assert sweep_orphans(services, NOW) == 1
    assert stored(services) == []


def test_a_study_of_one_tenant_keeps_no_objects_of_another(services: Services, sender: Principal) -> None:
    mine = upload(services, sender, nifti())
    kept = store(services, sender.tenant_id, mine.id)
    store(services, make_tenant(services.database), mine.id)
    assert sweep_orphans(services, NOW) == 1
    assert stored(services) == [kept]


def test_keys_that_uploads_do_not_write_are_left_alone(services: Services, sender: Principal) -> None:
    tenant, old = sender.tenant_id, aged(uuid7())
    strange = [
        store(services, uuid7(), old),  # of a tenant of another installation
        store(services, "models", "brain"),
        store(services, tenant, "exports"),
        store(services, tenant, uuid4()),
        store(services, tenant, old.hex),
        store(services, tenant, str(aged(uuid7())).upper()),
        store(services, tenant, UUID(int=old.int | (1 << 48) - 1 << 80)),  # made in the year 10889
        services.storage.put("studies", f"{tenant}/{aged(uuid7())}", b"a study is a folder").key,
        services.storage.put("studies", "readme.txt", b"dropped in").key,
    ]
    assert sweep_orphans(services, NOW) == 0
    assert stored(services) == sorted(strange)


def test_more_orphans_than_one_query_takes_all_go(services: Services, sender: Principal) -> None:
    kept = upload(services, sender, nifti())
    known = store(services, sender.tenant_id, kept.id)
    for _ in range(BATCH + 5):
        store(services, sender.tenant_id, aged(uuid7()))
    assert sweep_orphans(services, NOW) == BATCH + 5
    assert stored(services) == [known]
    with services.database.tenant(sender.tenant_id) as session:
        assert list(session.scalars(select(Study.id))) == [kept.id]


# Received files, in the bucket `incoming`


def drop(services: Services, tenant: UUID | str, owner: UUID | str, name: str = "1") -> str:
    return services.storage.put("incoming", f"uploads/{tenant}/{owner}/{name}", b"voxels").key


def test_received_files_without_a_row_go_and_those_of_a_study_stay(
    services: Services, sender: Principal
) -> None:
    upload(services, sender, nifti())
    [known] = stored(services, "incoming")
    drop(services, sender.tenant_id, aged(uuid7()))
    assert sweep_incoming(services, NOW) == 1
    assert stored(services, "incoming") == [known]
    with services.database.tenant(sender.tenant_id) as session:
        session.execute(delete(StudyFile))  # as ingest does once it has made something of them
    assert sweep_incoming(services) == 0
    assert sweep_incoming(services, NOW) == 1


def test_an_upload_in_progress_is_too_young_to_be_swept(services: Services, sender: Principal) -> None:
    with unit_of_work(services, sender.tenant_id) as unit:
        files = [Incoming(BytesIO(nifti()), "a_flair.nii", None)]
        receive_mri(unit, sender, files, Patient(), duplicate=False)
        [known] = stored(services, "incoming")  # its row is not committed: nobody else sees it
        assert sweep_incoming(services) == 0
    assert stored(services, "incoming") == [known]
    assert sweep_incoming(services, NOW) == 0


def test_a_commit_that_fails_leaves_objects_only_until_the_sweep(
    services: Services, sender: Principal
) -> None:
    with services.database.engine.begin() as owner:
        owner.execute(
            text("create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
        )
        owner.execute(
            text(
                "create constraint trigger refuse after insert on studies deferrable initially deferred "
                "for each row execute function refuse()"
            )
        )
    with pytest.raises(DBAPIError):
        upload(services, sender, nifti())
    assert stored(services, "incoming") != []
    assert sweep_incoming(services, NOW) == 1
    assert stored(services, "incoming") == []


def make_upload(services: Services, sender: Principal, **fields: Any) -> Upload:
    """An old upload in parts, with its object joined."""
    upload_id = aged(uuid7())
    key = drop(services, sender.tenant_id, upload_id)
    row = Upload(
        id=upload_id,
        tenant_id=sender.tenant_id,
        owner_id=sender.user_id,
        filename_sealed=b"",
        size=6,
        part_bytes=6,
        key=key,
        storage_id="x",
        expires_at=datetime.now(UTC) + HOUR,
        **fields,
    )
    with services.database.tenant(sender.tenant_id) as session:
        session.add(row)
    return row


def test_the_objects_of_uploads_are_kept_for_as_long_as_they_may_become_a_study(
    services: Services, sender: Principal
) -> None:
    open_, finished = (
        make_upload(services, sender, status=status) for status in (UploadStatus.OPEN, UploadStatus.FINISHED)
    )
    study = upload(services, sender, nifti())
    make_upload(
        services, sender, status=UploadStatus.FINISHED, study_id=study.id
    )  # known: the study has its own
    make_upload(services, sender, status=UploadStatus.ABORTED)
    make_upload(services, sender, status=UploadStatus.EXPIRED)
    assert sweep_incoming(services) == 3
    with services.database.tenant(sender.tenant_id) as session:
        of_study = session.scalars(select(StudyFile.key)).one()
    assert stored(services, "incoming") == sorted([open_.key, finished.key, of_study])


def test_what_others_put_into_the_bucket_is_left_alone(services: Services, sender: Principal) -> None:
    tenant, old = sender.tenant_id, aged(uuid7())
    strange = [
        drop(services, uuid7(), old),  # of a tenant of another installation
        drop(services, tenant, uuid4()),
        drop(services, tenant, old.hex),
        drop(services, tenant, "notes"),
        drop(services, tenant, str(aged(uuid7())).upper()),
        services.storage.put("incoming", f"uploads/{tenant}/{aged(uuid7())}", b"no folder").key,
        services.storage.put("incoming", f"hospital/ct/{old}/1.dcm", b"dropped in").key,
    ]
    assert sweep_incoming(services, NOW) == 0
    assert stored(services, "incoming") == sorted(strange)


def test_more_received_files_than_one_query_takes_all_go(services: Services, sender: Principal) -> None:
    upload(services, sender, nifti(voxels(2)))
    [known] = stored(services, "incoming")
    for number in range(BATCH + 5):
        drop(services, sender.tenant_id, aged(uuid7()), str(number))
    assert sweep_incoming(services, NOW) == BATCH + 5
    assert stored(services, "incoming") == [known]


# Received by DICOM, in the same bucket


def test_of_what_came_by_dicom_only_instances_without_a_study_go(
    services: Services, sender: Principal
) -> None:
    def put(tenant: UUID, name: str) -> str:
        return services.storage.put("incoming", f"dicom/{tenant}/{name}", b"pixels").key

    tenant, old = sender.tenant_id, str(aged(uuid7()))
    kept = [
        put(uuid7(), old),  # of a tenant of another installation
        put(tenant, str(uuid7())),
        put(tenant, str(uuid4())),
        put(tenant, f"{old[:-1]}a".upper()),
        put(tenant, f"{old}/1"),
        drop(services, tenant, aged(uuid7())),
    ]
    put(tenant, str(aged(uuid7())))
    assert sweep_instances(services) == 1
    assert stored(services, "incoming") == sorted(kept)


# Uploads in parts that the store has begun


def begin(services: Services, tenant: UUID | str, owner: UUID | str) -> tuple[str, str]:
    key = f"uploads/{tenant}/{owner}/1"
    return key, services.storage.start_multipart("incoming", key)


def begun(services: Services) -> list[tuple[str, str]]:
    return sorted(services.storage.list_multipart("incoming"))


def start_without_commit(services: Services, sender: Principal, asked: UploadRequest) -> None:
    with unit_of_work(services, sender.tenant_id) as unit:
        start(unit, sender, asked)
        raise RuntimeError("killed")


def test_an_upload_whose_start_was_not_committed_goes_when_its_time_would_be_over(
    services: Services, sender: Principal
) -> None:
    asked = UploadRequest(filename="abdomen.tar.gz", size=10_000)
    with pytest.raises(RuntimeError, match="killed"):
        start_without_commit(services, sender, asked)
    with unit_of_work(services, sender.tenant_id) as unit:
        known = start(unit, sender, asked)
    assert len(begun(services)) == 2
    assert sweep_unfinished(services) == 0, "both are young"
    services.settings.upload_hours = 0
    assert sweep_unfinished(services) == 1
    assert begun(services) == [(known.key, known.storage_id)]
    with services.database.tenant(sender.tenant_id) as session:
        session.get_one(Upload, known.id).status = UploadStatus.ABORTED
    assert sweep_unfinished(services) == 1
    assert begun(services) == []


def test_unfinished_uploads_of_others_are_left_alone(services: Services, sender: Principal) -> None:
    tenant, old = sender.tenant_id, aged(uuid7(), hours=49)
    elsewhere = f"{tenant}/{old}/volume/1.nii"
    strange = [
        begin(services, uuid7(), old),  # of a tenant of another installation
        begin(services, tenant, aged(uuid7(), hours=47)),
        begin(services, tenant, uuid4()),
        begin(services, tenant, old.hex),
        (elsewhere, services.storage.start_multipart("incoming", elsewhere)),
    ]
    for _ in range(BATCH + 1):
        begin(services, tenant, old)
    assert sweep_unfinished(services) == BATCH + 1
    assert begun(services) == sorted(strange)
