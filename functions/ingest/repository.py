"""The ingest function's SQL."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import delete, update
from sqlalchemy.orm import Session, selectinload

from shared.db.models import Study, StudyFile, StudyStatus


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

    def study(self, id: UUID) -> Study | None:
        """The study with its files."""
        return self._session.get(Study, id, options=[selectinload(Study.files)])

    def mark_ingested(self, id: UUID, files: list[DescribedFile]) -> None:
        """Record what the files are."""
        for file in files:
            change = update(StudyFile).where(StudyFile.id == file.id)
            self._session.execute(change.values(modality=file.modality, details=file.details))
        status = {"status": StudyStatus.INGESTED, "progress": 10, "step": "ingested"}
        details = {"modalities": sorted(file.modality for file in files)}
        self._session.execute(update(Study).where(Study.id == id).values(details=details, **status))

    def mark_rejected(self, id: UUID, reason: str) -> None:
        """Record why, and forget the files."""
        self._session.execute(delete(StudyFile).where(StudyFile.study_id == id))
        status = {"status": StudyStatus.REJECTED, "step": "rejected", "message": reason}
        self._session.execute(update(Study).where(Study.id == id).values(**status))
