"""The sweep: finds in the bucket `incoming` what no notice told of, and closes what has settled."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from uuid import UUID

from functions.ingest.objects.repository import ObjectsRepository
from functions.ingest.objects.service import close_settled
from functions.ingest.objects.writers import is_being_written
from shared.incoming import (
    BUCKET,
    NotForUs,
    key_hash,
    note_left,
    place_of,
    record,
    tenant_of,
    tenants,
    version_of,
)
from shared.runtime import Services
from shared.storage.port import ObjectRef

GRACE = timedelta(minutes=1)
"""Younger objects are left to their notices."""
BATCH = 500


@dataclass
class Swept:
    """What a sweep found."""

    objects: Counter[str] = field(default_factory=Counter)
    """By what became of them: accepted, known, young, ignored."""
    left: Counter[str] = field(default_factory=Counter)
    """Those that were ignored, by why."""
    closed: int = 0
    """Studies that had settled."""
    forgotten: int = 0
    """Rows of objects that are long gone."""


def reconcile(services: Services, *, dry_run: bool = False, grace: timedelta = GRACE) -> Swept:
    """List the bucket once and take in what was missed; safe beside others that do the same. Raises Unavailable."""
    swept, left = Swept(), Counter[str]()
    for tenant_id, refs in _by_tenant(services, left, grace):
        swept.objects += _take_missing(services, tenant_id, refs, dry_run=dry_run)
    swept.objects["young"] += left.pop("young", 0)
    swept.objects["ignored"], swept.left = left.total(), left
    if not dry_run:
        note_left(left, "sweep")
        swept.forgotten = sum(_forget(services, tenant_id) for tenant_id in set(tenants(services).values()))
        swept.closed = close_settled(services)
    return swept


def _by_tenant(
    services: Services, left: Counter[str], grace: timedelta
) -> Iterator[tuple[UUID, list[ObjectRef]]]:
    """Batches of objects that are meant for us and no longer young."""
    known = tenants(services)
    now = datetime.now(UTC)

    def chosen() -> Iterator[tuple[UUID, ObjectRef]]:
        for ref in services.storage.list_objects(BUCKET):
            try:
                tenant_id = tenant_of(place_of(ref.key), known)
            except NotForUs as reason:
                if reason.detail != "ours":
                    left[reason.detail] += 1
                continue
            # Either way: a clock that is far ahead must not keep an object young for ever.
            if ref.modified is not None and abs(now - ref.modified) < grace:
                left["young"] += 1
            else:
                yield tenant_id, ref

    for tenant_id, pairs in groupby(chosen(), key=lambda pair: pair[0]):
        refs = (ref for _, ref in pairs)
        while batch := list(islice(refs, BATCH)):
            yield tenant_id, batch


def _take_missing(
    services: Services, tenant_id: UUID, refs: list[ObjectRef], *, dry_run: bool
) -> Counter[str]:
    versions = [(key_hash(ref.key), version_of(ref)) for ref in refs]
    with services.database.tenant(tenant_id) as session:
        repository = ObjectsRepository(session)
        known = repository.known(versions)
        if not dry_run:
            repository.still_there(versions)
    new = [ref for ref, version in zip(refs, versions, strict=True) if version not in known]
    missing = [ref for ref in new if not is_being_written(services.storage, ref)]
    found = Counter(known=len(refs) - len(new), young=len(new) - len(missing))
    if dry_run:
        return found + Counter(accepted=len(missing))
    return found + record(services, tenant_id, missing, "sweep")


def _forget(services: Services, tenant_id: UUID) -> int:
    with services.database.tenant(tenant_id) as session:
        return ObjectsRepository(session).forget_gone()
