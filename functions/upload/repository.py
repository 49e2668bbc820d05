"""The upload function's SQL."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.db.models import Study, StudyStatus


class UploadRepository:
    """Studies by content."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find_known(self, owner_id: UUID, kind: str, digest: str) -> Study | None:
        """The owner's study of exactly these files, unless it was rejected."""
        return self._session.scalar(
            select(Study).where(
                Study.owner_id == owner_id,
                Study.kind == kind,
                Study.digest == digest,
                Study.status != StudyStatus.REJECTED,
                Study.duplicate.is_(False),
            )
        )

    def add_unless_known(self, study: Study) -> Study | None:
        """Insert the study; when the same files were sent at the same moment, return the one that won."""
        try:
            with self._session.begin_nested():
                self._session.add(study)
        except IntegrityError:
            known = self.find_known(study.owner_id, study.kind, study.digest)
            if known is None:
                raise
            return known
        return None
