"""The ingest function's SQL. Every change is made only while the study is still being received."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, selectinload

from shared.db.models import FileRole, Study, StudyFile, StudyStatus


@dataclass(frozen=True)
class DescribedFile:
    """A checked file: its sequence, and what is known of it."""

    id: UUID
    modality: str
    details: dict[str, Any]


class IngestRepository:
    """Studies on their way in."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def receiving(self, id: UUID) -> Study | None:
        """The study with its files; None when it is gone or already further on."""
        return self._session.scalar(
            select(Study)
            .where(Study.id == id, Study.status == StudyStatus.RECEIVING)
            .options(selectinload(Study.files))
        )

    def mark_ingested(self, id: UUID, files: list[DescribedFile]) -> bool:
        """Record what the files are; False when the study is no longer being received."""
        details = {"modalities": sorted(file.modality for file in files)}
        status = {"status": StudyStatus.INGESTED, "progress": 10, "step": "ingested", "message": None}
        if not self._change(id, details=details, **status):
            return False
        for file in files:
            change = update(StudyFile).where(StudyFile.id == file.id)
            self._session.execute(
                change.values(modality=file.modality, details=file.details, role=FileRole.VOLUME)
            )
        return True

    def mark_rejected(self, id: UUID, reason: str) -> bool:
        """Record why, and forget the files; False when the study is no longer being received."""
        if not self._change(id, status=StudyStatus.REJECTED, step="rejected", message=reason):
            return False
        self._session.execute(delete(StudyFile).where(StudyFile.study_id == id))
        return True

    def note(self, id: UUID, message: str) -> None:
        """Say something of a study that is still being received."""
        self._change(id, message=message)

    def _change(self, id: UUID, **values: object) -> bool:
        receiving = update(Study).where(Study.id == id, Study.status == StudyStatus.RECEIVING)
        return self._session.scalar(receiving.values(**values).returning(Study.id)) is not None
