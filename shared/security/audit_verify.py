"""Is the audit log still what was written? Every row is hashed again, in order, up to the head."""

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from shared.db.models import Tenant, User
from shared.runtime.services import Services
from shared.security.audit_chain import HEADS, LOG, START, Head, Keys, row_hash, seal_holds
from shared.security.keys import key_store

log = structlog.get_logger(__name__)

BATCH = 1000
"""Rows in memory at a time."""


@dataclass(frozen=True)
class Verdict:
    """What became of one tenant's log: how many rows are good from the first on, and what is wrong with the next."""

    tenant_id: UUID
    good: int
    head: Head | None
    problem: str | None


class Broken(Exception):
    """The chain does not hold; says where and how."""


def verify_tenant(services: Services, tenant_id: UUID, anchor: Head | None = None) -> Verdict:
    """Check one tenant's log, and that `anchor`, a head that was kept elsewhere, is still in it."""
    with services.database.tenant(tenant_id) as session:
        # Rows and head as they were at one moment, whatever is appended meanwhile.
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        row = session.execute(select(HEADS).where(HEADS.c.tenant_id == tenant_id)).one_or_none()
        head = Head(row.seq, row.hash) if row else None
        chain = _Chain(services.once(key_store).audit_ring, anchor)
        try:
            for entry in _entries(session, tenant_id):
                chain.follow(entry)
            chain.end(tenant_id, row, session.scalar(select(User.id).limit(1)) is not None)
        except Broken as broken:
            return Verdict(tenant_id, chain.last.seq, head, str(broken))
        return Verdict(tenant_id, chain.last.seq, head, None)


def tenants(services: Services) -> dict[UUID, str]:
    """Every tenant and its short name, oldest first."""
    with services.database.system() as session:
        rows = session.execute(select(Tenant.id, Tenant.slug).order_by(Tenant.id))
        return {row.id: row.slug for row in rows}


def log_heads(services: Services) -> int:
    """Write the head of every chain into the log, so that wherever logs are kept has it; returns how many."""
    count = 0
    for tenant_id in tenants(services):
        with services.database.tenant(tenant_id) as session:
            row = session.execute(select(HEADS).where(HEADS.c.tenant_id == tenant_id)).one_or_none()
        if row is not None:
            log.info("audit head", tenant_id=str(tenant_id), head=str(Head(row.seq, row.hash)))
            count += 1
    return count


class _Chain:
    """The chain as far as it was followed."""

    def __init__(self, keys: Keys, anchor: Head | None) -> None:
        self.last = Head(0, START)
        self._keys = keys
        self._anchor = anchor

    def follow(self, row: Row[Any]) -> None:
        """One row more. Raises Broken."""
        expected = self.last.seq + 1
        if row.seq < expected:
            raise Broken(f"a row was put in as {row.seq} beside the one that has that number")
        if row.seq > expected:
            raise Broken(f"{_rows(expected, row.seq - 1)} removed")
        secret = self._keys.get(row.key_id)
        if secret is None:
            raise Broken(f"row {row.seq} was made with key {row.key_id}, which the key ring lacks")
        if not hmac.compare_digest(row_hash(secret, self.last.hash, row._asdict()), row.hash):
            raise Broken(
                f"row {row.seq} does not follow from row {self.last.seq}: it was changed, moved or put in, or the "
                "one before it was"
            )
        self.last = Head(row.seq, row.hash)
        if self._anchor and self._anchor.seq == row.seq and self._anchor != self.last:
            raise Broken(f"row {row.seq} is not the one that was kept: the log was written anew up to there")

    def end(self, tenant_id: UUID, head: Row[Any] | None, has_accounts: bool) -> None:
        """There are no more rows. Raises Broken unless the head says so too."""
        if head is None and self.last.seq:
            raise Broken(f"the head after row {self.last.seq} was removed")
        if head is None and has_accounts:
            raise Broken(
                "there is no log, though there are accounts: it was removed, or they are from before there was "
                "one, and nobody did anything since"
            )
        if head is not None and head.seq > self.last.seq:
            raise Broken(f"{_rows(self.last.seq + 1, head.seq)} removed from the end")
        if self._anchor and self._anchor.seq > self.last.seq:
            raise Broken(
                f"{_rows(self.last.seq + 1, self._anchor.seq)} removed from the end, and the head set back"
            )
        if head is None:
            return
        if Head(head.seq, head.hash) != self.last:
            raise Broken(
                f"the head names row {head.seq}, which is not the last: it was changed, or rows were put in"
            )
        if head.seq and self._keys.get(head.key_id) is None:
            raise Broken(f"the head was sealed with key {head.key_id or '(none)'}, which the key ring lacks")
        if not seal_holds(self._keys, tenant_id, head):
            raise Broken(
                f"the head after row {head.seq} was changed: rows may have been removed from the end"
            )


def _entries(session: Session, tenant_id: UUID) -> Iterator[Row[Any]]:
    query = select(LOG).where(LOG.c.tenant_id == tenant_id).order_by(LOG.c.seq, LOG.c.id)
    yield from session.execute(query, execution_options={"yield_per": BATCH})


def _rows(first: int, last: int) -> str:
    return f"row {first} was" if first == last else f"rows {first} to {last} were"
