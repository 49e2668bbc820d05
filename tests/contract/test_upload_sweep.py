"""What the sweep removes, and above all what it does not."""

from datetime import timedelta
from io import BytesIO
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from functions.upload.service import Incoming, receive_mri
from functions.upload.sweep import BATCH, sweep_orphans
from shared.db.models import Study, StudyStatus
from shared.ids import uuid7
from shared.intake import Patient
from shared.runtime import Services
from shared.runtime.unit import unit_of_work
from shared.security.principal import Principal
from tests.builders import make_tenant, make_user
from tests.contract.test_brain_upload import left_behind, nifti

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
    return services.storage.put("studies", f"{tenant}/{study}/original/{uuid7()}.nii", b"voxels").key


def test_objects_without_a_study_go_and_those_of_a_study_stay(services: Services, sender: Principal) -> None:
    kept = upload(services, sender, nifti())
    [known] = left_behind(services)
    result = services.storage.put("studies", f"{sender.tenant_id}/{kept.id}/results/x/mask", b"mask").key
    orphan = aged(uuid7())
    store(services, sender.tenant_id, orphan)
    store(services, sender.tenant_id, orphan)
    assert sweep_orphans(services, NOW) == 1
    assert left_behind(services) == sorted([known, result])
    assert sweep_orphans(services, NOW) == 0


def test_an_upload_in_progress_is_too_young_to_be_swept(services: Services, sender: Principal) -> None:
    with unit_of_work(services, sender.tenant_id) as unit:
        files = [Incoming(BytesIO(nifti()), "a_flair.nii", None)]
        receive_mri(unit, sender, files, Patient(), duplicate=False)
        [stored] = left_behind(services)  # its row is not committed: nobody else sees it
        assert sweep_orphans(services) == 0
    assert left_behind(services) == [stored]
    assert sweep_orphans(services, NOW) == 0


def test_age_is_counted_from_the_making_of_the_studys_id(services: Services, sender: Principal) -> None:
    young = store(services, sender.tenant_id, aged(uuid7(), hours=0.9))
    store(services, sender.tenant_id, aged(uuid7(), hours=1.1))
    assert sweep_orphans(services) == 1
    assert left_behind(services) == [young]


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
    assert left_behind(services) != []
    assert sweep_orphans(services, NOW) == 1
    assert left_behind(services) == []


def test_what_is_left_of_a_rejected_study_goes(services: Services, sender: Principal) -> None:
    study = upload(services, sender, nifti())
    with services.database.tenant(sender.tenant_id) as session:
        session.get_one(Study, study.id).status = StudyStatus.REJECTED
    assert sweep_orphans(services, HOUR) == 0
    assert sweep_orphans(services, NOW) == 1
    assert left_behind(services) == []


def test_a_study_of_one_tenant_keeps_no_objects_of_another(services: Services, sender: Principal) -> None:
    mine = upload(services, sender, nifti())
    kept = left_behind(services)
    store(services, make_tenant(services.database), mine.id)
    assert sweep_orphans(services, NOW) == 1
    assert left_behind(services) == kept


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
    assert left_behind(services) == sorted(strange)


def test_more_orphans_than_one_query_takes_all_go(services: Services, sender: Principal) -> None:
    kept = upload(services, sender, nifti())
    [known] = left_behind(services)
    for _ in range(BATCH + 5):
        store(services, sender.tenant_id, aged(uuid7()))
    assert sweep_orphans(services, NOW) == BATCH + 5
    assert left_behind(services) == [known]
    with services.database.tenant(sender.tenant_id) as session:
        assert list(session.scalars(select(Study.id))) == [kept.id]
