"""What comes in: uploads under way, objects that others put into the bucket, answers to requests that may be repeated."""

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base, Identified, Stamped, TenantOwned
from shared.storage.port import Bucket


class UploadStatus(StrEnum):
    """Where an upload stands."""

    OPEN = "open"
    FINISHED = "finished"
    ABORTED = "aborted"
    EXPIRED = "expired"


class Upload(Base, Identified, TenantOwned, Stamped):
    """One file that is sent in parts to signed URLs."""

    __tablename__ = "uploads"
    __table_args__ = (
        CheckConstraint("status in ('open', 'finished', 'aborted', 'expired')", name="status"),
        CheckConstraint("kind in ('ct', 'brain-mri', 'oct', 'slide')", name="kind"),
        CheckConstraint("size > 0 and part_bytes > 0", name="size"),
        Index("ix_uploads_expiry", "expires_at", postgresql_where=text("status = 'open'")),
    )

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    status: Mapped[str] = mapped_column(default=UploadStatus.OPEN)
    kind: Mapped[str | None]
    filename_sealed: Mapped[bytes]
    """As sent; sealed, with this row's id as context."""
    size: Mapped[int] = mapped_column(BigInteger)
    part_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str | None]
    """Hex, as the sender declared it."""
    media_type: Mapped[str | None]
    key: Mapped[str]
    """In the bucket `incoming`."""
    storage_id: Mapped[str]
    """The store's own id of the multipart upload."""
    expires_at: Mapped[datetime]
    patient_id: Mapped[str | None]
    patient_name_sealed: Mapped[bytes | None]
    """Sealed with this row's id as context."""
    scan_date: Mapped[date | None]
    case_id: Mapped[UUID | None] = mapped_column(ForeignKey("cases.id", ondelete="SET NULL"))
    modality: Mapped[str | None]
    duplicate: Mapped[bool] = mapped_column(default=False)
    study_id: Mapped[UUID | None] = mapped_column(ForeignKey("studies.id", ondelete="SET NULL"), index=True)
    """The study that the file became part of."""


class IncomingObject(Base, Identified, TenantOwned, Stamped):
    """An object that somebody else put into the bucket `incoming`: taken up once, however often we are told of it."""

    __tablename__ = "incoming_objects"
    __table_args__ = (
        Index("uq_incoming_objects_version", "tenant_id", "key_hash", "version", unique=True),
        Index("ix_incoming_objects_made", "created_at"),
    )

    key_hash: Mapped[bytes]
    """SHA-256 of bucket and key: keys are chosen by senders, and may name patients."""
    version: Mapped[str]
    """ETag and time of writing: the same from a head and from a listing, which knows no version ids."""
    bucket: Mapped[Bucket] = mapped_column(String)
    key: Mapped[str | None]
    """None once the object was taken up: from then on it is named by its study's file only."""
    size: Mapped[int] = mapped_column(BigInteger)
    study_id: Mapped[UUID | None] = mapped_column(ForeignKey("studies.id", ondelete="SET NULL"), index=True)
    ignored: Mapped[str | None]
    """Why it became part of no study."""


class IdempotencyKey(Base, Identified, TenantOwned, Stamped):
    """The answer to a request that made something: the same request again gets it again."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        Index("uq_idempotency_keys_key", "tenant_id", "user_id", "key_hash", unique=True),
        Index("ix_idempotency_keys_made", "created_at"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    key_hash: Mapped[bytes]
    """SHA-256 of the header's value."""
    request_hash: Mapped[bytes]
    """SHA-256 of method, route and content: another request under the same key is a mistake."""
    status: Mapped[int | None]
    """None while the first of them is under way."""
    location: Mapped[str | None]
    answer: Mapped[dict[str, Any] | None]
