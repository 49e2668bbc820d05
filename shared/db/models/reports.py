"""Reports."""

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base, Identified, Stamped, TenantOwned


class Report(Base, Identified, TenantOwned, Stamped):
    """What one finished task is summed up to; its HTML and PDF are artifacts of the task."""

    __tablename__ = "reports"

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), index=True)
    task_id: Mapped[UUID] = mapped_column(ForeignKey("inference_tasks.id", ondelete="CASCADE"), unique=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    title: Mapped[str]
    content: Mapped[dict[str, Any]]
