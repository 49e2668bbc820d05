"""De-identified DICOM images that we hold, as DICOMweb shows them."""

from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shared.db.base import Base, Identified, Stamped, TenantOwned
from shared.storage.port import Bucket


class DicomSeries(Base, Identified, TenantOwned, Stamped):
    """One series of a study. Its files lie one after another in one uncompressed tar; all UIDs are the replaced ones."""

    __tablename__ = "dicom_series"
    __table_args__ = (
        UniqueConstraint("study_id", "series_uid"),
        Index("ix_dicom_series_study_uid", "tenant_id", "study_uid"),
        Index("ix_dicom_series_series_uid", "tenant_id", "series_uid"),
    )

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    study_uid: Mapped[str]
    series_uid: Mapped[str]
    modality: Mapped[str]
    number: Mapped[int | None]
    study_date: Mapped[date | None]
    """Moved, as all of the patient's dates are."""
    attributes: Mapped[dict[str, Any]]
    """Attributes of study and series, cleaned, in the DICOM JSON model (PS3.18 F.2)."""
    bucket: Mapped[Bucket] = mapped_column(String)
    key: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    chosen: Mapped[bool] = mapped_column(default=False)
    """Whether a volume was made of it."""
    reason: Mapped[str | None]
    """Why it was chosen, or passed over."""

    instances: Mapped[list["DicomInstance"]] = relationship(
        back_populates="series", order_by="DicomInstance.number, DicomInstance.sop_uid"
    )


class DicomInstance(Base, Identified, TenantOwned, Stamped):
    """One DICOM file within its series' tar."""

    __tablename__ = "dicom_instances"
    __table_args__ = (
        UniqueConstraint("series_id", "sop_uid"),
        Index("ix_dicom_instances_sop_uid", "tenant_id", "sop_uid"),
    )

    series_id: Mapped[UUID] = mapped_column(ForeignKey("dicom_series.id", ondelete="CASCADE"))
    sop_class: Mapped[str]
    sop_uid: Mapped[str]
    transfer_syntax: Mapped[str]
    number: Mapped[int | None]
    rows: Mapped[int | None]
    columns: Mapped[int | None]
    bits_allocated: Mapped[int | None]
    frames: Mapped[int]
    offset: Mapped[int] = mapped_column(BigInteger)
    """Of the file's first byte in the tar."""
    size: Mapped[int] = mapped_column(BigInteger)
    header_bytes: Mapped[int]
    """How many of the file's first bytes come before its pixel data."""

    series: Mapped[DicomSeries] = relationship(back_populates="instances")
