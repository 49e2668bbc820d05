"""Objects in the bucket `incoming` under keys of ours that no row has: removed once their writer must be done.

Files are stored before their rows are committed. A kill in between, or a commit that fails, leaves an object that
nobody knows of; so does a file that another took the place of.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from shared.db.tenants import tenant_ids
from shared.ids import made_before, spelled_uuid
from shared.incoming import BUCKET
from shared.runtime import Services
from shared.storage.port import Storage

log = structlog.get_logger(__name__)

AGE = timedelta(hours=1)
"""Who stores an object is done sooner: ids are made after the last byte was received, rows committed within seconds."""
BATCH = 100
Known = Callable[[Session, Sequence[str]], Collection[str]]
"""Those of the keys that a row has; the session is the tenant's."""


def sweep_received(
    services: Services,
    first: Literal["uploads", "dicom"],
    known: Known,
    older_than: timedelta,
    *,
    folders: bool,
) -> int:
    """Delete what is not known under the bucket's folder `first`; returns how many objects.

    Only keys `<first>/<tenant>/<id>` count, with folders only `<first>/<tenant>/<id>/…`, of tenants that this database
    knows (a bucket may serve two installations) and of ids that were made longer than `older_than` ago. Raises
    Unavailable.
    """
    latest, swept = datetime.now(UTC) - older_than, 0
    for tenant_id in tenant_ids(services.database):
        aged = _aged(services.storage, f"{first}/{tenant_id}/", latest, folders)
        if removed := _remove_unknown(services, tenant_id, aged, known):
            log.info("swept up received files that nothing has", tenant_id=str(tenant_id), objects=removed)
        swept += removed
    return swept


def _remove_unknown(services: Services, tenant_id: UUID, keys: Iterator[str], known: Known) -> int:
    removed = 0
    while batch := list(islice(keys, BATCH)):
        with services.database.tenant(tenant_id) as session:
            unknown = set(batch) - set(known(session, batch))
        for key in unknown:
            services.storage.delete(BUCKET, key)
        removed += len(unknown)
    return removed


def _aged(storage: Storage, prefix: str, latest: datetime, folders: bool) -> Iterator[str]:
    keys = (ref.key for ref in storage.list_objects(BUCKET, prefix))
    return (key for key in keys if is_aged(key, prefix, latest, folders=folders))


def is_aged(key: str, prefix: str, latest: datetime, *, folders: bool) -> bool:
    """Whether a key is one of ours, `<prefix><id>`, with folders `<prefix><id>/…`, of an id made before `latest`."""
    made, slash, _ = key.removeprefix(prefix).partition("/")
    owner = spelled_uuid(made)
    if owner is None or owner.version != 7 or bool(slash) != folders:  # none of ours
        return False
    return made_before(owner, latest)
