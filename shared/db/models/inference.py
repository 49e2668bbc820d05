"""Inference tasks, their remembered steps, and what they found."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base, Identified, Stamped, TenantOwned
from shared.storage.port import Bucket


class TaskState(StrEnum):
    """State of an inference task, in the words of the older slide system."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    CANCELLED = "CANCELLED"


class InferenceTask(Base, Identified, TenantOwned, Stamped):
    """One run of a pipeline over a study."""

    __tablename__ = "inference_tasks"
    __table_args__ = (
        CheckConstraint("state in ('PENDING', 'STARTED', 'SUCCESS', 'FAILURE', 'CANCELLED')", name="state"),
        CheckConstraint("progress between 0 and 100", name="progress"),
        Index("ix_inference_tasks_study", "study_id", "created_at"),
    )

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    pipeline: Mapped[str]
    state: Mapped[str] = mapped_column(default=TaskState.PENDING)
    progress: Mapped[int] = mapped_column(default=0)
    step: Mapped[str | None]
    message: Mapped[str | None]
    models: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Model name → version that was used."""
    results: Mapped[dict[str, Any]] = mapped_column(default=dict)
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]


class StepResult(Base, Identified, TenantOwned, Stamped):
    """What one pipeline step gave, so that a redelivered task resumes after it."""

    __tablename__ = "step_results"
    __table_args__ = (UniqueConstraint("task_id", "step", "input_hash", "model_version"),)

    task_id: Mapped[UUID] = mapped_column(ForeignKey("inference_tasks.id", ondelete="CASCADE"))
    step: Mapped[str]
    input_hash: Mapped[str]
    model: Mapped[str]
    model_version: Mapped[str]
    result: Mapped[dict[str, Any]]
    seconds: Mapped[float]


class Finding(Base, Identified, TenantOwned, Stamped):
    """One measured or predicted quantity, with the exact model version that gave it."""

    __tablename__ = "findings"
    __table_args__ = (UniqueConstraint("task_id", "name"),)

    task_id: Mapped[UUID] = mapped_column(ForeignKey("inference_tasks.id", ondelete="CASCADE"))
    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]
    """Place in the task's list of findings."""
    name: Mapped[str]
    display: Mapped[str]
    value: Mapped[str | None]
    number: Mapped[float | None]
    unit: Mapped[str | None]
    """UCUM."""
    probability: Mapped[float | None]
    model: Mapped[str]
    model_version: Mapped[str]
    geometry: Mapped[str | None]
    """Role of the artifact in which it can be seen."""


class Artifact(Base, Identified, TenantOwned, Stamped):
    """A stored file that a task or a report made."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("task_id", "role"),)

    task_id: Mapped[UUID] = mapped_column(ForeignKey("inference_tasks.id", ondelete="CASCADE"))
    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), index=True)
    role: Mapped[str]
    media_type: Mapped[str]
    filename: Mapped[str]
    bucket: Mapped[Bucket] = mapped_column(String)
    key: Mapped[str]
    version: Mapped[str | None]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
