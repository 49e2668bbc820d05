"""The drop-box: objects that others put into the bucket `incoming`, under `<tenant>/<kind>/<study name>/<file>` or, for
a study of one file, `<tenant>/<kind>/<file>`.

Whoever finds one (a notice of the store, the watched folder, the sweep) records it here. The same object in the same
version is recorded once, and told of by the event `object.created` in the same transaction.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, cast, get_args
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.db.models import Tenant
from shared.db.models.intake import IncomingObject
from shared.errors import Invalid
from shared.events import ObjectCreated
from shared.events.types import Kind
from shared.ids import uuid7
from shared.runtime import Services
from shared.runtime.unit import unit_of_work
from shared.storage.keys import is_key
from shared.storage.port import Bucket, ObjectNotFound, ObjectRef, Storage
from shared.telemetry.metrics import INCOMING_OBJECTS

log = structlog.get_logger(__name__)

BUCKET: Bucket = "incoming"
OURS = ("uploads", "dicom")
"""What the bucket's first folders are called that we write ourselves."""
AUTO = "auto"
KINDS: tuple[str, ...] = (*get_args(Kind), AUTO)
MARKER = "_COMPLETE"
"""Name of the object that says that its study is complete."""
BATCH = 200
"""Objects that are recorded in one transaction."""
_MISTAKES = ("misplaced", "unknown_kind", "unknown_tenant", "missing", "unreadable", "forbidden")
_UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".swp", "~")
_CLUTTER = {"thumbs.db", "desktop.ini", "__macosx", "readme.txt"}
Source = Literal["notice", "folder", "sweep"]
IS_SPENT = IncomingObject.key.is_(None) & IncomingObject.study_id.is_(None) & IncomingObject.ignored.is_(None)
"""Of an object that is gone: removed when its study was made or deleted, or by its sender. What is put in its place in
the same version, such as the same file with its old time, is new."""


@dataclass(frozen=True)
class Place:
    """What the key of an object in the drop-box says."""

    tenant: str
    """Short name or id."""
    folder: str
    """The kind, or `auto`."""
    study: str | None
    """The study's name; None where the object is a study by itself."""
    file: str
    """Path below the study."""

    @property
    def kind(self) -> Kind | None:
        """None where ingest is to find out."""
        return None if self.folder == AUTO else cast(Kind, self.folder)

    @property
    def is_marker(self) -> bool:
        """Whether it says that the study is complete."""
        return self.study is not None and self.file == MARKER

    @property
    def prefix(self) -> str:
        """What the keys of the whole study begin with."""
        return f"{self.tenant}/{self.folder}/{self.study}/"


def is_marker(key: str) -> bool:
    """Whether an object is called as the one that says that its study is complete."""
    return key.endswith(f"/{MARKER}")


class NotForUs(Invalid):
    """An object that is left alone; the text is one word for the metric."""


def place_of(key: str) -> Place:
    """What a key says. Raises NotForUs."""
    if key.endswith("/"):
        raise NotForUs("clutter")  # consoles of S3 show an empty folder by an object that is called so
    if not is_key(key):
        raise NotForUs("unreadable")
    tenant, *rest = key.split("/")
    if tenant in OURS:
        raise NotForUs("ours")
    if any(map(_is_clutter, (tenant, *rest))):
        raise NotForUs("clutter")
    if len(rest) < 2:
        raise NotForUs("misplaced")
    if rest[0] not in KINDS:
        raise NotForUs("unknown_kind")
    if len(rest) == 2:
        if rest[1] == MARKER:
            raise NotForUs("misplaced")
        return Place(tenant, rest[0], None, rest[1])
    return Place(tenant, rest[0], rest[1], "/".join(rest[2:]))


def key_hash(key: str) -> bytes:
    """By what an object's row is found: keys may name patients."""
    return hashlib.sha256(f"{BUCKET}/{key}".encode()).digest()


def version_of(ref: ObjectRef) -> str:
    """What an object is in, the same from a head and from a listing.

    The time makes a file that is sent a second time, long after the first was taken up and removed, another object. Only
    whole seconds: heads tell no more of it.
    """
    return f"{ref.etag}@{int(ref.modified.timestamp()) if ref.modified else ''}"


def remove_versions(storage: Storage, keys: Iterable[str], taken: Mapping[bytes, Collection[str]]) -> int:
    """Delete what a study was made of; returns how many objects. taken: by hash of key, the versions of the drop-box's
    objects that it was made of.

    An object of the drop-box that was replaced meanwhile stays: what lies there now belongs to another study.
    """
    removed = 0
    for key in keys:
        is_ours = key.partition("/")[0] in OURS
        if is_ours or _present_version(storage, key) in taken.get(key_hash(key), ()):
            storage.delete(BUCKET, key)
            removed += 1
    return removed


def _present_version(storage: Storage, key: str) -> str | None:
    try:
        return version_of(storage.head(BUCKET, key))
    except ObjectNotFound:
        return None


def tenants(services: Services) -> dict[str, UUID]:
    """Every tenant by its short name and by its id."""
    with services.database.system() as session:
        rows = session.execute(select(Tenant.slug, Tenant.id)).all()
    return {name: tenant_id for slug, tenant_id in rows for name in (str(tenant_id), slug)}


def take_in(services: Services, found: Iterable[tuple[str, ...]], source: Source) -> Counter[str]:
    """Record those objects that are there and meant for us; returns how many were accepted, known and ignored.

    found: for each object, what its key may be. Raises Unavailable where the store cannot be asked.
    """
    known_tenants = tenants(services)
    times = Counter(found)
    left: Counter[str] = Counter()
    chosen: dict[UUID, list[ObjectRef]] = {}
    again = 0
    for keys, count in times.items():
        refs, reason = _look(services, keys, known_tenants)
        if not refs:
            left[reason] += count
        for tenant_id, ref in refs:
            chosen.setdefault(tenant_id, []).append(ref)
        again += count - 1 if refs else 0
    note_left(left, source)
    tally = Counter(ignored=left.total(), known=again)
    for tenant_id, these in chosen.items():
        tally += record(services, tenant_id, these, source)
    return tally


def _look(
    services: Services, keys: tuple[str, ...], known: Mapping[str, UUID]
) -> tuple[list[tuple[UUID, ObjectRef]], str]:
    """The objects that go by these keys, with their tenants; without any, why not."""
    refs, reasons = [], []
    for key in keys:
        try:
            refs.append((tenant_of(place_of(key), known), services.storage.head(BUCKET, key)))
        except NotForUs as reason:
            reasons.append(reason.detail)
        except ObjectNotFound:
            reasons.append("missing")
    return refs, reasons[0] if reasons else "missing"


def tenant_of(place: Place, known: Mapping[str, UUID]) -> UUID:
    """The tenant that a place names. Raises NotForUs."""
    if place.tenant not in known:
        raise NotForUs("unknown_tenant")
    return known[place.tenant]


def note_left(left: Mapping[str, int], source: Source) -> None:
    """Count objects that are left alone, by reason; say so where somebody may have meant them for us."""
    for reason, count in left.items():
        INCOMING_OBJECTS.labels(source, reason).inc(count)
        if reason in _MISTAKES:
            log.warning("objects in the drop-box are left alone", reason=reason, count=count, source=source)


def record(services: Services, tenant_id: UUID, refs: Sequence[ObjectRef], source: Source) -> Counter[str]:
    """Record objects and tell of those that are new, in short transactions; how many were accepted and known."""
    accepted = 0
    rest = iter(refs)
    while batch := list(islice(rest, BATCH)):
        with unit_of_work(services, tenant_id) as unit:
            new = add_rows(unit.session, tenant_id, batch)
            for hash_, object_id in new.items():
                unit.emit(ObjectCreated(object_id=object_id, key_hash=hash_.hex()))
        accepted += len(new)
    known = len(refs) - accepted
    INCOMING_OBJECTS.labels(source, "accepted").inc(accepted)
    INCOMING_OBJECTS.labels(source, "known").inc(known)
    return Counter(accepted=accepted, known=known)


def add_rows(session: Session, tenant_id: UUID, refs: Sequence[ObjectRef]) -> dict[bytes, UUID]:
    """Insert the rows that are not there yet, or that nothing is left of; returns their ids by the hash of the key."""
    ordered = (_row(tenant_id, ref) for ref in sorted(refs, key=_turn))
    rows = {(row["key_hash"], row["version"]): row for row in ordered}
    if not rows:
        return {}
    adding = insert(IncomingObject)
    adding = adding.on_conflict_do_update(
        index_elements=["tenant_id", "key_hash", "version"],
        set_={"key": adding.excluded.key, "size": adding.excluded.size, "updated_at": func.now()},
        where=IS_SPENT,
    )
    made = session.execute(adding.returning(IncomingObject.key_hash, IncomingObject.id), list(rows.values()))
    return {row.key_hash: row.id for row in made}


def _turn(ref: ObjectRef) -> tuple[bool, bytes]:
    """In what order rows are locked, so that nobody waits in a ring: a marker after the pieces of its study."""
    return is_marker(ref.key), key_hash(ref.key)


def _row(tenant_id: UUID, ref: ObjectRef) -> dict[str, Any]:
    return {
        "id": uuid7(),
        "tenant_id": tenant_id,
        "key_hash": key_hash(ref.key),
        "version": version_of(ref),
        "bucket": ref.bucket,
        "key": ref.key,
        "size": ref.size,
    }


def _is_clutter(segment: str) -> bool:
    """Hidden, half written, or left by an operating system: nothing of a study is called so."""
    lower = segment.lower()
    return segment.startswith(".") or lower.endswith(_UNFINISHED) or lower in _CLUTTER
