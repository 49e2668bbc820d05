"""The event tables: what was emitted, who has handled it, what could not be handled."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base, Identified, Stamped, TenantOwned


class OutboxEntry(Base, Identified, TenantOwned):
    """An emitted event; its id is the CloudEvents id. Written in the transaction of what it tells of."""

    __tablename__ = "outbox"

    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    type: Mapped[str]
    topic: Mapped[str] = mapped_column(index=True)
    key: Mapped[str]
    envelope: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class Subscription(Base):
    """A function that wants a topic. Emitting an event puts one inbox row before each subscriber."""

    __tablename__ = "subscriptions"

    function: Mapped[str] = mapped_column(primary_key=True)
    topic: Mapped[str] = mapped_column(primary_key=True)


class InboxEntry(Base, TenantOwned):
    """One event as one function sees it: waiting, leased by a worker, done or dead. A done row is what makes a
    redelivery change nothing."""

    __tablename__ = "inbox"
    __table_args__ = (
        CheckConstraint("state in ('pending', 'done', 'dead')", name="state"),
        Index(
            "ix_inbox_order", "function", "topic", "key", "seq", postgresql_where=text("state = 'pending'")
        ),
        Index("ix_inbox_next", "function", "seq", postgresql_where=text("state = 'pending'")),
        Index("ix_inbox_leases", "lease_worker", postgresql_where=text("lease_worker is not null")),
    )

    function: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(ForeignKey("outbox.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)
    topic: Mapped[str]
    key: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="pending")
    attempt: Mapped[int] = mapped_column(server_default="0")
    """Times it was taken up; with lease_worker it fences off a worker that lost its lease."""
    failures: Mapped[int] = mapped_column(server_default="0")
    """Times its handler raised."""
    crashes: Mapped[int] = mapped_column(server_default="0")
    """Times its worker died or hung."""
    available_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lease_worker: Mapped[int | None] = mapped_column(BigInteger)
    leased_until: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class DeadLetter(Base, Identified, TenantOwned, Stamped):
    """An event that a function gave up on, with what is needed to understand and replay it."""

    __tablename__ = "dead_letters"

    function: Mapped[str]
    event_id: Mapped[UUID] = mapped_column(index=True)
    type: Mapped[str]
    key: Mapped[str]
    envelope: Mapped[dict[str, Any]]
    error: Mapped[str]
    attempts: Mapped[int]
    traceparent: Mapped[str | None]
