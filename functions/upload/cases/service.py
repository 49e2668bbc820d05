"""A case's brain MRI arrives sequence by sequence and is one study once all are there, or no more come."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from functions.upload.fields import MODALITIES
from functions.upload.receiving import BUCKET, About, Incoming, Looked, look_at, make_study, note, put, row_of
from shared.db.models import Case, FileRole, Study, StudyFile
from shared.ids import uuid7
from shared.intake import close, join
from shared.quota import expect_room, require_room
from shared.runtime import UnitOfWork
from shared.storage.port import ObjectRef


@dataclass(frozen=True)
class Joined:
    """An image of a case, in its study."""

    study: Study
    file: StudyFile
    known: bool
    received: Sequence[str]

    @property
    def awaited(self) -> list[str]:
        """Sequences that the study has not."""
        return [name for name in MODALITIES if name not in self.received]


def add_image(unit: UnitOfWork, case: Case, image: Incoming, *, complete: bool) -> Joined:
    """Put an image into the case's open study, or open one; another image of its sequence gives way to it.

    The study is announced once it has all four sequences, with `complete`, or when it has been quiet for long enough.
    Raises UnsupportedImage, TooLarge, Invalid, QuotaExceeded.
    """
    [looked] = look_at(unit, [image], "brain-mri", alone=True)
    expect_room(unit, looked.size)
    # Stored before the study is locked: others who add to it need not wait for the bytes.
    ref = put(unit, f"uploads/{unit.tenant_id}/{uuid7()}/1", looked)
    try:
        return _join(unit, case, looked, ref, complete=complete)
    except BaseException:
        unit.storage.delete(BUCKET, ref.key)
        raise


def _join(unit: UnitOfWork, case: Case, looked: Looked, ref: ObjectRef, *, complete: bool) -> Joined:
    modality = looked.file.declared_modality
    settle = timedelta(seconds=unit.services.settings.settle_seconds)
    fresh = make_study(unit, case.owner_id, About("brain-mri", case=case), "brain-mri")
    study = join(unit, f"case:{case.id}", settle, lambda: fresh)
    if study is fresh:
        note(unit, "study.create", study, {"case": case.id})
    there = {file.declared_modality: file for file in _files(unit.session, study.id)}
    before = there.get(modality)
    known = before is not None and before.sha256 == looked.sha256
    if before is not None and known:
        file = before
        unit.storage.delete(BUCKET, ref.key)
    else:
        file = row_of(unit, study.id, ref, looked)
        unit.session.add(file)
        if before is not None:
            unit.session.delete(before)  # its object has no row then: the sweep removes it
        unit.session.flush()
        require_room(unit, 0)
        note(
            unit, "study.add", study, {"file": file.id, "modality": modality, "replaced": before is not None}
        )
    received = [name for name in MODALITIES if name in {*there, modality}]
    if complete or len(received) == len(MODALITIES):
        close(unit, study.id)
    unit.session.refresh(study)
    return Joined(study, file, known, received)


def _files(session: Session, study_id: UUID) -> list[StudyFile]:
    query = select(StudyFile).where(StudyFile.study_id == study_id, StudyFile.role == FileRole.RECEIVED)
    return list(session.scalars(query))
