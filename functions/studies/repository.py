"""The studies function's SQL."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, selectinload

from shared.db.models import Artifact, Finding, InferenceTask, Report, Study
from shared.security.policy import Action, Reach
from shared.security.principal import Principal


class StudyRepository:
    """Studies and their results, as one principal may see them."""

    def __init__(self, session: Session, viewer: Principal) -> None:
        self._session = session
        self._viewer = viewer

    def visible(self, kind: str | None = None, status: str | None = None) -> Select[Study]:
        """Query of the studies that the viewer may see."""
        query = select(Study)
        if self._viewer.reach(Action.STUDIES_READ) is not Reach.TENANT:
            query = query.where(Study.owner_id == self._viewer.user_id)
        if kind is not None:
            query = query.where(Study.kind == kind)
        return query if status is None else query.where(Study.status == status)

    def get(self, id: UUID, kind: str | None = None) -> Study | None:
        """One study with its files, if the viewer may see it."""
        return self._session.scalar(
            self.visible(kind).where(Study.id == id).options(selectinload(Study.files))
        )

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
