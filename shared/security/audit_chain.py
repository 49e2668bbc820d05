"""The audit log's chain: each row's hash covers the row and the hash before it, so that no row can be changed, removed,
put in or moved without all that follow failing to fit.

The hashes are HMACs: who can write to the database but has not the key cannot make them. The head of each tenant's
chain is sealed with the key too; without it, cutting off the end and naming an earlier row as the head would not show.
Who has both the database and the key can build another chain, and who kept an old head can put it back with the rows
up to it: against that, heads are kept elsewhere (`hounsfield audit verify` prints them, the log has them every hour)
and checked with `hounsfield audit verify --at`.
"""

import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlalchemy import Row, bindparam, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from shared.db.base import Base
from shared.db.models import AuditEntry, AuditHead
from shared.ids import uuid7
from shared.security.audit import Actor, Record
from shared.telemetry.trace import current_traceparent

log = structlog.get_logger(__name__)

START = bytes(32)
"""What comes before the first row."""
UNSEALED = b""
"""The seal of a head that was found broken: it stays broken, however much is appended."""
LOG = Base.metadata.tables[AuditEntry.__tablename__]
HEADS = Base.metadata.tables[AuditHead.__tablename__]
HASHED = tuple(column.name for column in LOG.columns if column.name != "hash")

_LOCK = (
    select(HEADS, func.clock_timestamp().label("at"))
    .where(HEADS.c.tenant_id == bindparam("tenant"))
    .with_for_update()
)
_APPEND = insert(LOG)
_MOVE = update(HEADS).where(HEADS.c.tenant_id == bindparam("tenant"))


class Keys(Protocol):
    """The keys of one purpose: the newest is used, older ones are kept to check what they made."""

    @property
    def newest(self) -> tuple[str, bytes]:
        """Id and secret of the key to use now."""
        ...

    def get(self, key_id: str) -> bytes | None:
        """The secret of that key, if the ring has it."""
        ...


@dataclass(frozen=True)
class Head:
    """The last row of a tenant's chain; `str` gives what operators keep elsewhere."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"


def append(
    session: Session, keys: Keys, tenant_id: UUID, actor: Actor | None, records: Sequence[Record]
) -> None:
    """Add records to the end of the tenant's chain. Others of the tenant wait from here until the commit."""
    key_id, secret = keys.newest
    before = _lock_head(session, tenant_id)
    end, intact = _end(session, keys, tenant_id, before)
    stamp = {"tenant_id": tenant_id, "at": before.at, "key_id": key_id}
    rows, head = _chained(end, secret, [{**values, **stamp} for values in _values(actor, records)])
    session.execute(_APPEND, rows)
    seal = make_seal(secret, tenant_id, head) if intact else UNSEALED
    values = {"seq": head.seq, "hash": head.hash, "key_id": key_id, "seal": seal}
    session.execute(_MOVE, {"tenant": tenant_id, **values})


def row_hash(secret: bytes, before: bytes, row: Mapping[str, Any]) -> bytes:
    """HMAC-SHA256 over the hash before and the row as canonical JSON.

    Columns without a value are left out, so that one that is added later changes nothing of older rows.
    """
    values = {name: row[name] for name in HASHED if row[name] is not None}
    canonical = json.dumps(values, default=_text, sort_keys=True, separators=(",", ":"))
    return hmac.digest(secret, before + canonical.encode(), "sha256")


def make_seal(secret: bytes, tenant_id: UUID, head: Head) -> bytes:
    """HMAC-SHA256 over the head."""
    return hmac.digest(secret, f"head of {tenant_id}: {head}".encode(), "sha256")


def seal_holds(keys: Keys, tenant_id: UUID, row: Row[Any]) -> bool:
    """Whether a row of `audit_heads` is what a holder of the key wrote."""
    secret = keys.get(row.key_id)
    if secret is None:
        return False
    return hmac.compare_digest(make_seal(secret, tenant_id, Head(row.seq, row.hash)), row.seal)


def _chained(
    end: Head, secret: bytes, entries: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], Head]:
    """The entries as rows that follow `end`, and the new end."""
    rows = []
    for entry in entries:
        row = {**entry, "id": uuid7(), "seq": end.seq + 1}
        end = Head(end.seq + 1, row_hash(secret, end.hash, row))
        rows.append({**row, "hash": end.hash})
    return rows, end


def _values(actor: Actor | None, records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    who = actor or Actor(None)
    trace = current_traceparent()
    for record in records:
        subject_type, subject_id = record.subject or (None, None)
        yield {
            "actor_id": who.user_id,
            "credential": who.credential,
            "address": who.address,
            "action": record.action,
            "outcome": record.outcome,
            "subject_type": subject_type,
            "subject_id": subject_id,
            "patient_id": record.patient_id,
            "trace_id": trace.split("-")[1] if trace else None,
            "details": dict(record.details),
        }


def _lock_head(session: Session, tenant_id: UUID) -> Row[Any]:
    """The tenant's head and the database's time. Of two transactions, the second waits here until the first ended."""
    head = session.execute(_LOCK, {"tenant": tenant_id}).one_or_none()
    if head is None:
        first = {"tenant_id": tenant_id, "seq": 0, "hash": START, "key_id": "", "seal": UNSEALED}
        session.execute(upsert(HEADS).values(first).on_conflict_do_nothing())
        head = session.execute(_LOCK, {"tenant": tenant_id}).one()
    return head


def _end(session: Session, keys: Keys, tenant_id: UUID, row: Row[Any]) -> tuple[Head, bool]:
    """Where the chain goes on, and whether its head is what was written last. A damaged log goes on after its last row:
    nobody shall keep a hospital from its data by damaging it."""
    head = Head(row.seq, row.hash)
    if seal_holds(keys, tenant_id, row):
        return head, True
    query = select(LOG.c.seq, LOG.c.hash).where(LOG.c.tenant_id == tenant_id).order_by(LOG.c.seq.desc())
    last = session.execute(query.limit(1)).one_or_none()
    if last is None and row.seq == 0:
        return head, True  # the first row of all
    log.error("the audit log's head is not what was written last", tenant_id=str(tenant_id), seq=row.seq)
    return (Head(last.seq, last.hash) if last and last.seq > row.seq else head), False


def _text(value: object) -> str:
    """Ids and times as JSON has them: RFC 3339, UTC, microseconds."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    raise TypeError(type(value).__name__)
