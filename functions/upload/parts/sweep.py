"""Uploads that the store has begun and that no row knows: aborted once their time would be over.

The store begins an upload before its row is committed. A kill in between, or a commit that fails, leaves one that nobody
can send to, finish or give up; so does a kill while a large file is being stored in parts.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import structlog

from functions.upload.parts import repository
from functions.upload.receiving import BUCKET
from shared.db.tenants import tenant_ids
from shared.runtime import Services
from shared.storage.port import Storage
from shared.sweep import BATCH, is_aged

log = structlog.get_logger(__name__)


def sweep_unfinished(services: Services) -> int:
    """Abort them; returns how many uploads that were.

    Only of keys `uploads/<tenant>/<id>/…`, of tenants that this database knows (a bucket may serve two installations) and
    of ids that were made longer ago than an upload is kept open. Raises Unavailable.
    """
    latest, swept = datetime.now(UTC) - timedelta(hours=services.settings.upload_hours), 0
    for tenant_id in tenant_ids(services.database):
        uploads = _aged(services.storage, f"uploads/{tenant_id}/", latest)
        while batch := list(islice(uploads, BATCH)):
            with services.database.tenant(tenant_id) as session:
                known = repository.known_to_store(session, [storage_id for _, storage_id in batch])
            for key, storage_id in batch:
                if storage_id not in known:
                    services.storage.abort_multipart(BUCKET, key, storage_id)
                    log.info("swept up an upload that is not there", tenant_id=str(tenant_id))
                    swept += 1
    return swept


def _aged(storage: Storage, prefix: str, latest: datetime) -> Iterator[tuple[str, str]]:
    begun = storage.list_multipart(BUCKET, prefix)
    return (upload for upload in begun if is_aged(upload[0], prefix, latest, folders=True))
