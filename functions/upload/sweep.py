"""Objects that no study and no upload has: removed some time after their writer must be done.

Files are stored before their rows are committed. A kill in between, or a commit that fails, leaves objects that nobody
knows of; a kill before `study.rejected` was handled leaves those of a rejected study. A form's file is left over, too,
where its study was known already.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from functions.upload.repository import UploadRepository
from shared.ids import made_before, spelled_uuid
from shared.runtime import Services
from shared.storage.port import Storage
from shared.sweep import AGE, BATCH, sweep_received

log = structlog.get_logger(__name__)


def sweep_orphans(services: Services, older_than: timedelta = AGE) -> int:
    """Delete what is stored of studies that do not exist, or were rejected; returns how many studies that were.

    Only keys `<tenant>/<study>/…` count, of tenants that this database knows (a bucket may serve two installations)
    and of studies whose id was made longer than `older_than` ago. Raises Unavailable.
    """
    latest = datetime.now(UTC) - older_than
    swept = 0
    for tenant_id, owned in groupby(_studies(services.storage), key=lambda pair: pair[0]):
        aged = (study_id for _, study_id in owned if made_before(study_id, latest))
        while batch := list(islice(aged, BATCH)):
            for study_id in _unwanted(services, tenant_id, batch):
                objects = services.storage.delete_prefix("studies", f"{tenant_id}/{study_id}/")
                log.info("swept up a study that is not there", study_id=str(study_id), objects=objects)
                swept += 1
    return swept


def _unwanted(services: Services, tenant_id: UUID, studies: list[UUID]) -> list[UUID]:
    with services.database.tenant(tenant_id) as session:
        repository = UploadRepository(session)
        if not repository.has_tenant(tenant_id):
            return []
        kept = repository.kept(studies)
    return [study_id for study_id in studies if study_id not in kept]


def _studies(storage: Storage) -> Iterator[tuple[UUID, UUID]]:
    """Tenant and study of every object, each once: keys come in order."""
    owners = (_owner(ref.key) for ref in storage.list_objects("studies"))
    return (owner for owner, _ in groupby(owners) if owner is not None)


def _owner(key: str) -> tuple[UUID, UUID] | None:
    """Tenant and study of a key `<tenant>/<study>/…` as uploads write it; None for any other key."""
    tenant, _, rest = key.partition("/")
    study, slash, _ = rest.partition("/")
    tenant_id, study_id = spelled_uuid(tenant), spelled_uuid(study)
    if tenant_id is None or study_id is None or study_id.version != 7 or not slash:
        return None
    return tenant_id, study_id


def sweep_incoming(services: Services, older_than: timedelta = AGE) -> int:
    """Delete received files that no study's file and no upload names; returns how many objects that were.

    Only of ids that were made longer than `older_than` ago. Raises Unavailable.
    """
    return sweep_received(services, "uploads", _named, older_than, folders=True)


def _named(session: Session, keys: Sequence[str]) -> set[str]:
    return UploadRepository(session).named(keys)
