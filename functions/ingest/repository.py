"""The ingest function's SQL. Every change is made only while the study is still being received."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import delete, null, select, update
from sqlalchemy.orm import Session, selectinload

from shared.db.models import DicomSeries, FileRole, Study, StudyFile, StudyStatus


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

    def lock_receiving(self, id: UUID) -> Study | None:
        """The same without its files, as it is now; nobody else changes it until the transaction ends."""
        query = select(Study).where(Study.id == id, Study.status == StudyStatus.RECEIVING).with_for_update()
        return self._session.scalar(query, execution_options={"populate_existing": True})

    def known(self, study: Study, digest: str) -> UUID | None:
        """The owner's other study of these files, unless it was rejected or is a wanted duplicate."""
        return self._session.scalar(
            select(Study.id).where(
                Study.owner_id == study.owner_id,
                Study.digest == digest,
                Study.id != study.id,
                Study.status != StudyStatus.REJECTED,
                Study.duplicate.is_(False),
            )
        )

    def progress(self, id: UUID, step: str, percent: int) -> bool:
        """Say which step has begun; False when the study is no longer being received."""
        return self._change(id, step=step, progress=percent, message=None)

    def mark_ingested(
        self,
        study: Study,
        files: Sequence[StudyFile],
        series: Sequence[DicomSeries],
        hashes: Mapping[UUID, str],
    ) -> None:
        """Record what was made of the study. Rows of what was received stay until their objects are gone."""
        study.status, study.progress, study.step = StudyStatus.INGESTED, 10, "ingested"
        study.message, study.held = None, null()
        for file_id, sha256 in hashes.items():
            unknown = update(StudyFile).where(StudyFile.id == file_id, StudyFile.sha256.is_(None))
            self._session.execute(unknown.values(sha256=sha256))
        self._session.add_all([*files, *series])

    def mark_rejected(self, id: UUID, reason: str) -> bool:
        """Record why; False when the study is no longer being received."""
        values = {"status": StudyStatus.REJECTED, "step": "rejected", "message": reason, "held": null()}
        return self._change(id, **values)

    def mark_held(self, id: UUID, codes: list[str], message: str) -> None:
        """Let the study wait for a person."""
        self._change(id, step="held", message=message, held=codes)

    def note(self, id: UUID, message: str) -> None:
        """Say something of a study that is still being received."""
        self._change(id, message=message)

    def spent(self, id: UUID) -> Sequence[StudyFile]:
        """What was received of a study that is not being received any more."""
        query = (
            select(StudyFile)
            .join(Study)
            .where(
                Study.id == id,
                Study.status != StudyStatus.RECEIVING,
                StudyFile.role == FileRole.RECEIVED,
            )
        )
        return self._session.scalars(query).all()

    def forget_files(self, id: UUID) -> None:
        """Drop the rows of every file of a study."""
        self._session.execute(delete(StudyFile).where(StudyFile.study_id == id))

    def _change(self, id: UUID, **values: object) -> bool:
        receiving = update(Study).where(Study.id == id, Study.status == StudyStatus.RECEIVING)
        return self._session.scalar(receiving.values(**values).returning(Study.id)) is not None
