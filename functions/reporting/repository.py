"""Reports in the database, and what they are made from."""

from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from functions.reporting.content import Source
from functions.reporting.schemas import ReportContent
from shared.db.models import Artifact, Finding, InferenceTask, Report, Study, StudyFile
from shared.security.sealing import NameRing
from shared.storage.port import ObjectRef


class ReportRepository:
    """Queries of one tenant's session."""

    def __init__(self, session: Session, tenant_id: UUID) -> None:
        self._session = session
        self._tenant_id = tenant_id

    def source(self, task_id: UUID, names: NameRing) -> Source | None:
        """Everything that a task left behind; None when the task is gone."""
        task = self._session.get(InferenceTask, task_id)
        if task is None:
            return None
        study = self._session.get_one(Study, task.study_id)
        scalars = self._session.scalars
        return Source(
            task,
            study,
            scalars(select(Finding).where(Finding.task_id == task_id)).all(),
            scalars(select(Artifact).where(Artifact.task_id == task_id)).all(),
            [
                names.filename_if_possible(file)
                for file in scalars(select(StudyFile).where(StudyFile.study_id == study.id))
            ],
        )

    def add(self, content: ReportContent, owner_id: UUID) -> bool:
        """Insert the report of a task; False when it has one.

        Of two transactions that do this at once, the second waits here until the first has ended.
        """
        # First the study, as whoever deletes it does: the row refers to its task as well.
        study = select(Study.id).where(Study.id == content.study.id)
        self._session.execute(study.with_for_update(read=True, key_share=True))
        added = self._session.execute(
            insert(Report)
            .values(
                id=content.report_id,
                tenant_id=self._tenant_id,
                study_id=content.study.id,
                task_id=content.task_id,
                owner_id=owner_id,
                title=content.title,
                content=content.model_dump(mode="json"),
                created_at=content.created_at,
            )
            .on_conflict_do_nothing(index_elements=[Report.task_id])
            .returning(Report.id)
        )
        return added.scalar_one_or_none() is not None

    def add_artifact(
        self, content: ReportContent, role: str, media_type: str, ref: ObjectRef, sha256: str
    ) -> None:
        """Note one stored form of the report."""
        self._session.add(
            Artifact(
                tenant_id=self._tenant_id,
                task_id=content.task_id,
                study_id=content.study.id,
                role=role,
                media_type=media_type,
                filename=ref.key.rpartition("/")[2],
                bucket=ref.bucket,
                key=ref.key,
                version=ref.version,
                size=ref.size,
                sha256=sha256,
            )
        )

    def get(self, id: UUID) -> Report | None:
        """One report of the tenant."""
        return self._session.get(Report, id)

    def artifact(self, task_id: UUID, role: str) -> Artifact | None:
        """One stored form of a task's report."""
        return self._session.scalar(
            select(Artifact).where(Artifact.task_id == task_id, Artifact.role == role)
        )

    @staticmethod
    def listed(owner_id: UUID | None, study_id: UUID | None) -> Select[Report]:
        """Reports of one owner, or of the tenant; of one study, or of all."""
        query = select(Report)
        if owner_id is not None:
            query = query.where(Report.owner_id == owner_id)
        return query if study_id is None else query.where(Report.study_id == study_id)
