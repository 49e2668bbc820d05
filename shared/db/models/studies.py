"""Studies and the files they came in."""

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shared.db.base import Base, Identified, Stamped, TenantOwned
from shared.storage.port import Bucket


class StudyStatus(StrEnum):
    """Where a study stands between upload and result."""

    RECEIVING = "receiving"
    INGESTED = "ingested"
    PROCESSING = "processing"
    COMPLETED = "completed"
    REJECTED = "rejected"


class Study(Base, Identified, TenantOwned, Stamped):
    """One examination of one patient, as it was sent."""

    __tablename__ = "studies"
    __table_args__ = (
        CheckConstraint("kind in ('ct', 'brain-mri', 'oct', 'slide')", name="kind"),
        CheckConstraint(
            "status in ('receiving', 'ingested', 'processing', 'completed', 'rejected')", name="status"
        ),
        CheckConstraint("progress between 0 and 100", name="progress"),
        # The same files of one owner are one study, unless the sender asked for another or the first was rejected.
        Index(
            "uq_studies_digest",
            "owner_id",
            "kind",
            "digest",
            unique=True,
            postgresql_where=text("status <> 'rejected' and not duplicate"),
        ),
        Index("ix_studies_listing", "tenant_id", "kind", "created_at", "id"),
    )

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    kind: Mapped[str]
    patient_id: Mapped[str]
    patient_name_sealed: Mapped[bytes | None]
    """AES-GCM; never leaves the database in clear except to who may see the study."""
    scan_date: Mapped[date | None]
    status: Mapped[str] = mapped_column(default=StudyStatus.RECEIVING)
    progress: Mapped[int] = mapped_column(default=0)
    step: Mapped[str | None]
    message: Mapped[str | None]
    digest: Mapped[str]
    """sha256 over the files' own hashes and declared modalities."""
    duplicate: Mapped[bool] = mapped_column(default=False)
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    completed_at: Mapped[datetime | None]

    files: Mapped[list["StudyFile"]] = relationship(
        back_populates="study", order_by="StudyFile.created_at, StudyFile.id"
    )


class StudyFile(Base, Identified, TenantOwned, Stamped):
    """One file of a study and where its bytes are."""

    __tablename__ = "study_files"

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), index=True)
    filename: Mapped[str | None]
    """As sent, of files from before file names were sealed; `hounsfield keys reseal` seals and empties it."""
    filename_sealed: Mapped[bytes | None]
    """As sent, AES-GCM: it may name a patient. `NameRing.filename` opens it for who may see the study."""
    bucket: Mapped[Bucket] = mapped_column(String)
    key: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    declared_modality: Mapped[str | None]
    modality: Mapped[str | None]
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """How the modality was found and how sure that is; shape; spacing in mm."""

    study: Mapped[Study] = relationship(back_populates="files")
