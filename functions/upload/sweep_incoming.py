"""Received files that no study and no upload has, in the bucket `incoming`: removed once their writer must be done.

A form's files and a joined upload are there before their rows are committed. A kill in between, or a commit that fails,
leaves an object that nobody knows of; so does a file that another took the place of, or whose study was known already.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

import structlog

from functions.upload.receiving import BUCKET
from functions.upload.repository import UploadRepository
from functions.upload.sweep import AGE, BATCH
from shared.db.tenants import tenant_ids
from shared.ids import made_before
from shared.runtime import Services
from shared.storage.port import Storage

log = structlog.get_logger(__name__)


def sweep_incoming(services: Services, older_than: timedelta = AGE) -> int:
    """Delete them; returns how many objects that were.

    Only keys `uploads/<tenant>/<id>/…` count, of tenants that this database knows (a bucket may serve two installations)
    and of ids that were made longer than `older_than` ago. Raises Unavailable.
    """
    latest = datetime.now(UTC) - older_than
    return sum(_sweep(services, tenant_id, latest) for tenant_id in tenant_ids(services.database))


def _sweep(services: Services, tenant_id: UUID, latest: datetime) -> int:
    swept, keys = 0, _aged(services.storage, f"uploads/{tenant_id}/", latest)
    while batch := list(islice(keys, BATCH)):
        with services.database.tenant(tenant_id) as session:
            wanted = UploadRepository(session).named(batch)
        for key in batch:
            if key not in wanted:
                services.storage.delete(BUCKET, key)
                swept += 1
    if swept:
        log.info("swept up received files that nothing has", tenant_id=str(tenant_id), objects=swept)
    return swept


def _aged(storage: Storage, prefix: str, latest: datetime) -> Iterator[str]:
    for ref in storage.list_objects(BUCKET, prefix):
        made, slash, _ = ref.key.removeprefix(prefix).partition("/")
        try:
            owner = UUID(made)
        except ValueError:  # none of ours
            continue
        if slash and str(owner) == made and owner.version == 7 and made_before(owner, latest):
            yield ref.key
