"""Who read or changed what: a log that can only grow, each row chained to the one before."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base, Identified


class AuditEntry(Base, Identified):
    """One access. A trigger refuses update and delete to everybody. How it is chained: `shared.security.audit_chain`."""

    __tablename__ = "audit_log"
    __table_args__ = (
        CheckConstraint("outcome in ('success', 'failure')", name="outcome"),
        Index("uq_audit_log_seq", "tenant_id", "seq", unique=True),
        Index("ix_audit_log_at", "tenant_id", "at"),
        Index("ix_audit_log_subject", "tenant_id", "subject_id"),
        Index("ix_audit_log_patient", "tenant_id", "patient_id"),
        Index("ix_audit_log_actor", "tenant_id", "actor_id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    seq: Mapped[int] = mapped_column(BigInteger)
    """1, 2, 3 … in each tenant, without gaps."""
    at: Mapped[datetime]
    """By the database's clock, so that replicas agree."""
    actor_id: Mapped[UUID | None]
    """The account; no foreign key, because the log outlives what it tells of."""
    credential: Mapped[str | None]
    """`token:<session id>`, `session:<session id>`, `api-key:<id>`, `password`, `oidc`, `command-line`."""
    address: Mapped[str | None]
    """Where the request came from."""
    action: Mapped[str]
    """Such as `study.read`, `auth.login`."""
    outcome: Mapped[str]
    subject_type: Mapped[str | None]
    subject_id: Mapped[UUID | None]
    patient_id: Mapped[str | None]
    """The pseudonym; never a name."""
    trace_id: Mapped[str | None]
    details: Mapped[dict[str, Any]]
    """Ids, counts and words of ours only; lists name what they showed (`studies`, `reports`, `patients`)."""
    key_id: Mapped[str]
    """The key of the ring that `hash` was made with."""
    hash: Mapped[bytes]
    """HMAC-SHA256 over the hash before and this row; 32 zero bytes come before the first."""


class AuditHead(Base):
    """The last row of each tenant's chain; its row lock is what orders the chain."""

    __tablename__ = "audit_heads"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes]
    key_id: Mapped[str]
    seal: Mapped[bytes]
    """HMAC-SHA256 over this row: who cuts off the chain's end cannot make an earlier row its head."""
