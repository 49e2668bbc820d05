"""What keeps key rings short: names are sealed anew with the newest key, keys that nothing needs are removed."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, LargeBinary, SQLColumnExpression, func, null, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute

from shared.config import Settings
from shared.db.models import Study, StudyFile, Upload
from shared.db.session import Database
from shared.db.tenants import tenant_ids
from shared.errors import Conflict, NotFound
from shared.runtime.services import Services
from shared.runtime.unit import UnitOfWork, unit_of_work
from shared.security.audit import Actor
from shared.security.keys import KeyStore, key_store
from shared.security.ring_folder import KeyFile, RingName
from shared.security.ring_log import record
from shared.security.rings import Ring
from shared.security.sealing import BrokenSeal, name_ring
from shared.storage.keys import MAX_EXPIRY

BATCH = 200
SETTLED = timedelta(hours=2)
"""How long a key is kept after its successor began: access tokens live an hour at most, and an upload that sealed a
name before may take long to commit."""


@dataclass(frozen=True)
class Sealed:
    """A column of sealed names."""

    kind: str
    """What its rows are."""
    row: type[Study] | type[StudyFile] | type[Upload]
    column: InstrumentedAttribute[bytes | None] | InstrumentedAttribute[bytes]
    clear: SQLColumnExpression[Any]
    """Where older rows have the name in clear, if they have."""

    @property
    def key_id(self) -> ColumnElement[bytes]:
        """Which key sealed it."""
        return func.substring(self.column, 2, 4, type_=LargeBinary)


SEALED = (
    Sealed("study", Study, Study.patient_name_sealed, null()),
    Sealed("study", Study, Study.name_sealed, null()),
    Sealed("file", StudyFile, StudyFile.filename_sealed, StudyFile.filename),
    Sealed("upload", Upload, Upload.filename_sealed, null()),
    Sealed("upload", Upload, Upload.patient_name_sealed, null()),
)


@dataclass(frozen=True)
class Resealed:
    """What became of one batch of names."""

    tenant_id: UUID
    kind: str
    """What they are the names of: `study` (its own or its patient's name), `file` or `upload` (as `study` and `file`)."""
    count: int
    broken: tuple[UUID, ...]
    """Those whose name no key opens; they stay as they are."""


@dataclass(frozen=True)
class OldKey:
    """A key file that is used for nothing new."""

    ring: RingName
    id: str
    file: KeyFile
    needed: str | None
    """Why it is still needed; None where it may be removed."""


def reseal(services: Services, actor: Actor, size: int = BATCH) -> Iterator[Resealed]:
    """Seal every name with the newest key, a committed batch at a time.

    Names that have it already are passed over, so what was interrupted goes on where it stopped. A row is locked
    meanwhile and nothing else of it is written, so functions may run beside.
    """
    for tenant_id, sealed in product(tenant_ids(services.database), SEALED):
        after: UUID | None = UUID(int=0)
        while after is not None:
            with unit_of_work(services, tenant_id, actor) as unit:
                resealed, after = _reseal_batch(unit, sealed, after, size)
                if resealed.count:
                    details = {"names": resealed.count}
                    unit.audit("keys.reseal", subject=("tenant", tenant_id), details=details)
            yield resealed


def _reseal_batch(unit: UnitOfWork, sealed: Sealed, after: UUID, size: int) -> tuple[Resealed, UUID | None]:
    names = unit.services.once(name_ring)
    newest = bytes.fromhex(unit.services.once(key_store).names.newest.key_id)
    row = sealed.row
    wanted = select(row.id, sealed.column, sealed.clear).where(
        or_(sealed.key_id != newest, sealed.clear.is_not(None)), row.id > after
    )
    rows = unit.session.execute(wanted.order_by(row.id).limit(size).with_for_update()).all()
    broken = []
    for row_id, old, name in rows:
        try:
            fresh = names.seal(names.open(old or b"", row_id) if name is None else name, row_id)
        except BrokenSeal:
            broken.append(row_id)
            continue
        # `updated_at` and the ETag tell of changes that somebody can see.
        values: dict[Any, Any] = {sealed.column: fresh, row.updated_at: row.updated_at}
        if name is not None:
            values[sealed.clear] = None
        unit.session.execute(update(row).where(row.id == row_id).values(values))
    resealed = Resealed(unit.tenant_id, sealed.kind, len(rows) - len(broken), tuple(broken))
    return resealed, rows[-1].id if len(rows) == size else None


def old_keys(services: Services) -> tuple[OldKey, ...]:
    """Every key file that is used for nothing new, oldest first; never audit keys, which are kept for ever."""
    store = services.once(key_store)
    needed = _needs(store, services.settings, _names_in_use(services.database))
    rings = [ring for ring in store.rings if ring.name != "audit"]
    own = [(ring.name, key) for ring in rings for key, _ in ring.old() if not key.derived]
    found = [OldKey(name, key.id, key.file, needed.get(key.file)) for name, key in own]
    return tuple(sorted(found, key=lambda old: old.file))


def retire(services: Services, actor: Actor, key_id: str | None = None) -> tuple[OldKey, ...]:
    """Remove the old keys that nothing needs, or the one with this id; all old keys are returned, also those kept.

    The audit log has it first. Raises NotFound: no such key; Conflict: the key that was asked for is needed.
    """
    store = services.once(key_store)
    found = tuple(old for old in old_keys(services) if key_id in (None, old.id))
    if key_id is not None:
        _require_retirable(store, key_id, found)
    gone = [old for old in found if old.needed is None]
    record(services.database, store.audit_ring, actor, "keys.retire", [(old.ring, old.id) for old in gone])
    with store.folder.locked():
        for old in gone:
            store.folder.remove(old.file)
    return found


def _require_retirable(store: KeyStore, key_id: str, found: tuple[OldKey, ...]) -> None:
    if found:
        if found[0].needed is not None:
            raise Conflict(f"{found[0].ring} key {key_id} stays: {found[0].needed}")
        return
    if store.audit_ring.find(key_id):
        raise Conflict(f"audit key {key_id} stays: without it nobody can tell whether the log was changed")
    if any(ring.find(key_id) for ring in store.rings):
        raise Conflict(f"key {key_id} stays: it is in use; `hounsfield keys rotate` adds a newer one first")
    raise NotFound(f"no key {key_id}; `hounsfield keys list` shows those there are")


def _needs(store: KeyStore, settings: Settings, in_use: Mapping[str, int]) -> dict[KeyFile, str]:
    """Why a file is needed: `signing.pem` for what was derived from it, too."""
    longest = timedelta(days=max(MAX_EXPIRY.days, settings.session_days))
    needs = _ring_needs(store.root, longest + SETTLED, {})
    needs |= _ring_needs(store.names, SETTLED, in_use)
    return needs | _ring_needs(store.signing, SETTLED, {})


def _ring_needs(ring: Ring[Any], lasting: timedelta, in_use: Mapping[str, int]) -> dict[KeyFile, str]:
    needs = {}
    replaced = {key.id: when for key, when in ring.old()}
    for key in ring.kept():
        if key.id not in replaced:
            needs[key.file] = f"it is the {ring.name} key in use"
        elif ring.now() < (until := replaced[key.id] + lasting):
            needs[key.file] = f"what was made with it may be in use until {until:%Y-%m-%d %H:%M} UTC"
        elif count := in_use.get(key.id, 0):
            needs[key.file] = f"{count} names are sealed with it; `hounsfield keys reseal` changes that"
    return needs


def _names_in_use(database: Database) -> Counter[str]:
    """How many names each key of the names ring seals."""
    found: Counter[str] = Counter()
    for tenant_id, sealed in product(tenant_ids(database), SEALED):
        count = select(sealed.key_id, func.count()).where(sealed.column.is_not(None)).group_by(sealed.key_id)
        with database.tenant(tenant_id) as session:
            found.update({bytes(key_id).hex(): number for key_id, number in session.execute(count)})
    return found
