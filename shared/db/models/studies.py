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


class FileRole(StrEnum):
    """What a study's file is for."""

    RECEIVED = "received"
    """As it was sent; waits for ingest, which leaves none of these. Only it and `original` may name the patient."""
    ORIGINAL = "original"
    """As it was sent; kept because HOUNSFIELD_KEEP_ORIGINALS says so."""
    VOLUME = "volume"
    """NIfTI: one CT or MRI volume."""
    BSCANS = "bscans"
    """OCT: see `shared.imaging.oct.stored`."""
    FUNDUS = "fundus"
    """PNG: the picture of the fundus that came with an OCT scan."""
    SLIDE = "slide"
    """A whole-slide image without label and macro images."""


class Study(Base, Identified, TenantOwned, Stamped):
    """One examination of one patient, as it was sent."""

    __tablename__ = "studies"
    __table_args__ = (
        CheckConstraint("kind in ('ct', 'brain-mri', 'oct', 'slide')", name="kind"),
        CheckConstraint(
            "status in ('receiving', 'ingested', 'processing', 'completed', 'rejected')", name="status"
        ),
        CheckConstraint("progress between 0 and 100", name="progress"),
        CheckConstraint("patient_id_source in ('given', 'generated', 'dicom')", name="patient_id_source"),
        # What arrives piece by piece joins the one study that is open for it.
        Index(
            "uq_studies_intake_key",
            "tenant_id",
            "intake_key",
            unique=True,
            postgresql_where=text("settle_at is not null"),
        ),
        # The same files of one owner are one study, unless the sender asked for another or the first was rejected.
        Index(
            "uq_studies_digest",
            "owner_id",
            "digest",
            unique=True,
            postgresql_where=text("status <> 'rejected' and not duplicate"),
        ),
        Index("ix_studies_listing", "tenant_id", "kind", "created_at", "id"),
    )

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    case_id: Mapped[UUID | None] = mapped_column(ForeignKey("cases.id", ondelete="SET NULL"), index=True)
    kind: Mapped[str | None]
    """None until ingest has seen the files, where the sender did not say."""
    name_sealed: Mapped[bytes | None]
    """What its owner calls it, sealed as the patient's name is: it may hold that name."""
    patient_id: Mapped[str]
    patient_id_source: Mapped[str] = mapped_column(default="given", server_default="given")
    """`given` by the sender; `generated`; or `dicom`: the pseudonym that stands for the Patient ID of the images."""
    patient_name_sealed: Mapped[bytes | None]
    """AES-GCM; never leaves the database in clear except to who may see the study."""
    scan_date: Mapped[date | None]
    status: Mapped[str] = mapped_column(default=StudyStatus.RECEIVING)
    progress: Mapped[int] = mapped_column(default=0)
    step: Mapped[str | None]
    message: Mapped[str | None]
    digest: Mapped[str | None]
    """sha256 over the files' own hashes and declared modalities; None until the hashes are known."""
    duplicate: Mapped[bool] = mapped_column(default=False)
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    intake_key: Mapped[str | None]
    """What an object must say to join this study while it is open (`shared.intake`)."""
    settle_at: Mapped[datetime | None]
    """When the study is complete unless more of it arrives; None once it is, and where nothing was to come."""
    held: Mapped[list[str] | None]
    """Why a person has to look before the images are used, such as text burnt into them."""
    released_by: Mapped[UUID | None]
    """Who looked, and let them pass."""
    completed_at: Mapped[datetime | None]

    files: Mapped[list["StudyFile"]] = relationship(
        back_populates="study", order_by="StudyFile.created_at, StudyFile.id"
    )


class StudyFile(Base, Identified, TenantOwned, Stamped):
    """One file of a study and where its bytes are."""

    __tablename__ = "study_files"
    __table_args__ = (
        CheckConstraint(
            "role in ('received', 'original', 'volume', 'bscans', 'fundus', 'slide')", name="role"
        ),
    )

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), index=True)
    filename: Mapped[str | None]
    """As sent, of files from before file names were sealed; `hounsfield keys reseal` seals and empties it."""
    filename_sealed: Mapped[bytes | None]
    """As sent, AES-GCM: it may name a patient. `NameRing.filename` opens it for who may see the study."""
    bucket: Mapped[Bucket] = mapped_column(String)
    key: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str | None]
    """Hex; None for what was received past us, until ingest has read it."""
    role: Mapped[str] = mapped_column(default=FileRole.RECEIVED, server_default=FileRole.VOLUME)
    media_type: Mapped[str | None]
    declared_modality: Mapped[str | None]
    modality: Mapped[str | None]
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """How the modality was found and how sure that is; shape; spacing in mm."""

    study: Mapped[Study] = relationship(back_populates="files")
