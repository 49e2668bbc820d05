"""Cases: what a clinician collects of one patient."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base, Identified, Stamped, TenantOwned


class CaseStatus(StrEnum):
    """Where the clinician stands with it."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"


class Case(Base, Identified, TenantOwned, Stamped):
    """One patient's case: under a pseudonym, with what is known of it and the studies that belong to it."""

    __tablename__ = "cases"
    __table_args__ = (
        CheckConstraint("status in ('pending', 'in_progress', 'completed')", name="status"),
        CheckConstraint("sex in ('female', 'male', 'other', 'unknown')", name="sex"),
        CheckConstraint("age between 0 and 150", name="age"),
        Index("ix_cases_listing", "tenant_id", "created_at", "id"),
    )

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    patient_id: Mapped[str]
    age: Mapped[int | None]
    """Years."""
    sex: Mapped[str | None]
    diagnosis: Mapped[str | None]
    notes: Mapped[str | None]
    status: Mapped[str] = mapped_column(default=CaseStatus.PENDING)
