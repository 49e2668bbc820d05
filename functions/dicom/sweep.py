"""Objects of instances whose rows were never committed, or that were replaced: removed once nobody can be at them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

import structlog

from functions.dicom.receiving import PREFIX
from functions.dicom.repository import IncomingRepository
from shared.db.tenants import tenant_ids
from shared.ids import made_before
from shared.runtime import Services

log = structlog.get_logger(__name__)

AGE = timedelta(hours=1)
"""An instance is stored and committed within seconds."""
BATCH = 500


def sweep_instances(services: Services, older_than: timedelta = AGE) -> int:
    """Delete what was received by DICOM longer than `older_than` ago and belongs to no study; returns how many.

    Only of tenants that this database knows: a bucket may serve two installations. Raises Unavailable.
    """
    latest = datetime.now(UTC) - older_than
    return sum(_sweep(services, tenant_id, latest) for tenant_id in tenant_ids(services.database))


def _sweep(services: Services, tenant_id: UUID, latest: datetime) -> int:
    swept, keys = 0, _aged(services, f"{PREFIX}{tenant_id}/", latest)
    while batch := list(islice(keys, BATCH)):
        with services.database.tenant(tenant_id) as session:
            known = IncomingRepository(session).known_keys("incoming", batch)
        for key in batch:
            if key not in known:
                services.storage.delete("incoming", key)
                swept += 1
    if swept:
        log.info("swept up received objects that no study has", objects=swept)
    return swept


def _aged(services: Services, prefix: str, latest: datetime) -> Iterator[str]:
    for ref in services.storage.list_objects("incoming", prefix):
        try:
            made = UUID(ref.key.removeprefix(prefix))
        except ValueError:  # none of ours
            continue
        if made.version == 7 and made_before(made, latest):
            yield ref.key
