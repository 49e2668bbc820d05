"""The upload function's SQL."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from functions.upload.parts.repository import IS_WAITING
from shared.db.models import InferenceTask, Study, StudyFile, StudyStatus, TaskState, Tenant, Upload


class UploadRepository:
    """Studies by content."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find_known(self, owner_id: UUID, digest: str | None) -> Study | None:
        """The owner's study of exactly these files, unless it was rejected; nobody deletes it meanwhile."""
        query = select(Study).where(
            Study.owner_id == owner_id,
            Study.digest == digest,
            Study.status != StudyStatus.REJECTED,
            Study.duplicate.is_(False),
        )
        return self._session.scalar(query.with_for_update(read=True, key_share=True))

    def attach(self, uploads: Sequence[Upload], study_id: UUID) -> None:
        """Note which study has these uploads; they expire no more, and if it is deleted they are over."""
        for upload in uploads:
            upload.study_id = study_id
            upload.expires_at = func.now()
        self._session.flush()

    def has_tenant(self, id: UUID) -> bool:
        """Whether there is such a tenant."""
        return self._session.get(Tenant, id) is not None

    def kept(self, ids: Sequence[UUID]) -> set[UUID]:
        """Those of the studies that exist and were not rejected: their objects are theirs."""
        query = select(Study.id).where(Study.id.in_(ids), Study.status != StudyStatus.REJECTED)
        return set(self._session.scalars(query))

    def named(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys in the bucket `incoming` that a study's file has, or an upload that no study has yet.

        One statement, so that an upload is not missed while it passes from the one to the other.
        """
        files = select(StudyFile.key).where(StudyFile.bucket == "incoming", StudyFile.key.in_(keys))
        uploads = select(Upload.key).where(Upload.key.in_(keys), IS_WAITING)
        return set(self._session.scalars(files.union(uploads)))

    def restart_ingest(self, study: Study) -> bool:
        """Take back that ingest gave up; False when it did not, or when somebody else took it back."""
        given_up = Study.message.is_not(None) & Study.step.is_distinct_from("held")
        return self._change(study, StudyStatus.RECEIVING, given_up, message=None)

    def restart_analysis(self, study: Study) -> bool:
        """Take back that the newest analysis failed; False when it did not, or when somebody else took it back."""
        newest = (
            select(InferenceTask.state)
            .where(InferenceTask.study_id == study.id)
            .order_by(InferenceTask.id.desc())
            .limit(1)
            .scalar_subquery()
        )
        failed = Study.completed_at.is_not(None) & (newest == TaskState.FAILURE)
        fresh = {"progress": 10, "step": "ingested", "message": None, "completed_at": None}
        return self._change(study, StudyStatus.INGESTED, failed, **fresh)

    def _change(
        self, study: Study, status: StudyStatus, condition: ColumnElement[bool], **values: object
    ) -> bool:
        """Whether the condition held. Of two transactions that ask at once, the second waits and gets False."""
        stopped = update(Study).where(Study.id == study.id, Study.status == status, condition)
        return self._session.scalar(stopped.values(**values).returning(Study.id)) is not None

    def add_unless_known(self, study: Study) -> Study | None:
        """Insert the study; when the same files were sent at the same moment, return the one that won."""
        try:
            with self._session.begin_nested():
                self._session.add(study)
        except IntegrityError:
            known = self.find_known(study.owner_id, study.digest)
            if known is None:
                raise
            return known
        return None
