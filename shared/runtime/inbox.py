"""The inbox: claiming an event for a worker, renewing and fencing the claim, and marking what became of it.

Whatever the bus, an event is handled under a claim: an inbox row with a lease. (worker, attempt) fences it: each
claim raises `attempt`, so a worker that lost its lease can neither renew nor finish it.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, bindparam, func, text, update
from sqlalchemy.orm import Session

from shared.db.models import DeadLetter, InboxEntry
from shared.runtime.outcomes import LeaseLost

WORKER_LOCKS = 0x484F
"""Namespace of the advisory locks by which a worker shows that it lives: a killed process loses its lock with its
connection, and its leases are free at once instead of after their time."""


@dataclass(frozen=True)
class Claim:
    """One event, held by one worker for one function. The event is still as it was stored: it is decoded where a
    failure to do so can be dealt with."""

    function: str
    event_id: UUID
    tenant_id: UUID
    type: str
    key: str
    stored: dict[str, Any]
    worker: int
    attempt: int
    failures: int
    crashes: int

    @property
    def traceparent(self) -> str | None:
        """Trace context of whoever emitted the event."""
        return self.stored.get("traceparent")


# The oldest waiting event of the function's topics whose key has no older event still waiting or in work.
_NEXT = text(
    """
    with next as (
        select i.function, i.event_id
        from inbox i
        where i.function = :function and i.topic in :topics and i.state = 'pending'
          and i.lease_worker is null and i.available_at <= now()
          and not exists (
            select from inbox older
            where older.function = i.function and older.topic = i.topic and older.key = i.key
              and older.state = 'pending' and older.seq < i.seq)
        order by i.seq
        limit 1
        for update of i skip locked
    )
    update inbox i
    set lease_worker = :worker, leased_until = now() + :lease, attempt = i.attempt + 1, updated_at = now()
    from next join outbox o on o.id = next.event_id
    where i.function = next.function and i.event_id = next.event_id
    returning i.event_id, i.tenant_id, o.type, i.key, o.envelope as stored, i.attempt, i.failures, i.crashes
    """
).bindparams(bindparam("topics", expanding=True))

_RELEASE = text(
    """
    update inbox set lease_worker = null, leased_until = null, crashes = crashes + 1
    where state = 'pending' and lease_worker is not null and (
        leased_until < now()
        or lease_worker not in (
            select objid::bigint from pg_locks
            where locktype = 'advisory' and classid = :namespace and granted
              and database = (select oid from pg_database where datname = current_database())))
    """
)


def claim_next(
    session: Session, function: str, topics: tuple[str, ...], worker: int, lease: timedelta
) -> Claim | None:
    """Take up the next event, or None when nothing is due."""
    values = {"function": function, "topics": list(topics), "worker": worker, "lease": lease}
    row = session.execute(_NEXT, values).one_or_none()
    return None if row is None else Claim(function=function, worker=worker, **row._asdict())


def release_orphans(session: Session) -> int:
    """Free what dead workers held, or what was not renewed in time; returns how many events."""
    return _count(session.execute(_RELEASE, {"namespace": WORKER_LOCKS}))


def renew(session: Session, claim: Claim, lease: timedelta) -> bool:
    """Lengthen the lease; False when it is no longer ours."""
    return _change(session, claim, leased_until=func.now() + lease)


def hold(session: Session, claim: Claim) -> None:
    """Lock the claim's row until the transaction ends. Raises LeaseLost."""
    if not _change(session, claim, updated_at=func.now()):
        raise LeaseLost


def mark_done(session: Session, claim: Claim) -> None:
    """Note, in the handler's own transaction, that the event was handled. Raises LeaseLost."""
    if not _change(session, claim, state="done", lease_worker=None, leased_until=None):
        raise LeaseLost


def give_back(session: Session, claim: Claim, after: timedelta, *, failed: bool) -> None:
    """Deliver again after a while. Raises LeaseLost."""
    changed = _change(
        session,
        claim,
        lease_worker=None,
        leased_until=None,
        failures=claim.failures + failed,
        available_at=func.now() + after,
    )
    if not changed:
        raise LeaseLost


def bury(session: Session, claim: Claim, error: str) -> None:
    """Make the event a dead letter; later events of its key go on. Raises LeaseLost."""
    if not _change(session, claim, state="dead", lease_worker=None, leased_until=None):
        raise LeaseLost
    session.add(
        DeadLetter(
            tenant_id=claim.tenant_id,
            function=claim.function,
            event_id=claim.event_id,
            type=claim.type,
            key=claim.key,
            envelope=claim.stored,
            error=error.replace("\0", "\ufffd"),  # PostgreSQL stores no NUL
            attempts=claim.attempt,
            traceparent=claim.traceparent,
        )
    )


def _change(session: Session, claim: Claim, **values: object) -> bool:
    result = session.execute(
        update(InboxEntry)
        .where(
            InboxEntry.function == claim.function,
            InboxEntry.event_id == claim.event_id,
            InboxEntry.state == "pending",
            InboxEntry.lease_worker == claim.worker,
            InboxEntry.attempt == claim.attempt,
        )
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    return _count(result) == 1


def _count(result: object) -> int:
    assert isinstance(result, CursorResult)
    return result.rowcount
