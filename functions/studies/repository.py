"""The studies function's SQL: what there is, as one person may see it."""

from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, selectinload

from functions.studies.filters import Filters
from shared.db.models import Artifact, Finding, InferenceTask, Report, Study
from shared.security.policy import Action, Reach
from shared.security.principal import Principal

ORDERS: dict[str, Any] = {
    "created_at": Study.id,  # UUIDv7: made in this order
    "updated_at": Study.updated_at,
    "scan_date": func.coalesce(Study.scan_date, date.min),
    "patient_id": Study.patient_id,
}
"""What `?sort=` may name."""


class StudyRepository:
    """Studies and their results, as one principal may see them, or may do something else to them."""

    def __init__(self, session: Session, viewer: Principal, action: Action = Action.STUDIES_READ) -> None:
        self._session = session
        self._viewer = viewer
        self._action = action

    def visible(self, kind: str | None = None) -> Select[Study]:
        """Query of the studies that the viewer may see."""
        query = select(Study)
        if self._viewer.reach(self._action) is not Reach.TENANT:
            query = query.where(Study.owner_id == self._viewer.user_id)
        return query if kind is None else query.where(Study.kind == kind)

    def listed(self, wanted: Filters, kind: str | None = None) -> Select[Study]:
        """Those of them that fit all that is given."""
        query = self.visible(kind)
        for name in ("status", "patient_id", "case_id"):
            if (value := getattr(wanted, name)) is not None:
                query = query.where(getattr(Study, name) == value)
        if wanted.created_after is not None:
            query = query.where(Study.created_at > wanted.created_after)
        return (
            query if wanted.created_before is None else query.where(Study.created_at < wanted.created_before)
        )

    def get(self, id: UUID, kind: str | None = None) -> Study | None:
        """One study with its files, if the viewer may see it."""
        return self._session.scalar(
            self.visible(kind).where(Study.id == id).options(selectinload(Study.files))
        )

    def lock(self, ids: Sequence[UUID], kind: str | None = None) -> Sequence[Study]:
        """Those of these studies that the viewer may see, with their files, unchanged until the transaction ends.

        In one order, so that two who lock the same ones wait in line.
        """
        query = self.visible(kind).where(Study.id.in_(ids)).order_by(Study.id)
        locked = query.with_for_update(of=Study).options(selectinload(Study.files))
        return self._session.scalars(locked, execution_options={"populate_existing": True}).all()

    def newest_task(self, study_id: UUID) -> InferenceTask | None:
        """The study's newest inference task."""
        return self._session.scalar(
            select(InferenceTask)
            .where(InferenceTask.study_id == study_id)
            .order_by(InferenceTask.id.desc())
            .limit(1)
        )

    def findings(self, task_id: UUID) -> Sequence[Finding]:
        """Findings in the pipeline's order."""
        return self._session.scalars(
            select(Finding).where(Finding.task_id == task_id).order_by(Finding.position)
        ).all()

    def artifacts(self, task_id: UUID) -> Sequence[Artifact]:
        """Artifacts by role."""
        return self._session.scalars(
            select(Artifact).where(Artifact.task_id == task_id).order_by(Artifact.role)
        ).all()

    def report_id(self, task_id: UUID) -> UUID | None:
        """The task's report."""
        return self._session.scalar(select(Report.id).where(Report.task_id == task_id))
