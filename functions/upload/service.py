"""What becomes of uploaded files: hashed, stored, and told of, once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO
from uuid import UUID

from functions.upload.repository import UploadRepository
from functions.upload.sniff import require_nifti
from shared.db.models import Study, StudyFile
from shared.errors import Invalid
from shared.events import StudyIngested
from shared.ids import uuid7
from shared.intake import Patient, announce, new_study, received_file
from shared.runtime import UnitOfWork
from shared.security.principal import Principal

MAX_MRI_FILES = 4


@dataclass(frozen=True)
class Incoming:
    """One uploaded file."""

    stream: IO[bytes]
    filename: str
    declared_modality: str | None


@dataclass(frozen=True)
class Received:
    """What became of an upload: its study, whether that was known, and whether work on it was started."""

    study: Study
    known: bool
    started: bool


def receive_mri(
    unit: UnitOfWork, user: Principal, files: Sequence[Incoming], patient: Patient, *, duplicate: bool
) -> Received:
    """Store a brain MRI and announce it. Files that are known already are not stored again.

    What is left in storage without a row, by a kill or a failed commit, `functions.upload.sweep` removes.
    Raises UnsupportedImage for a file that is not NIfTI, Invalid for none or more than four.
    """
    if not 1 <= len(files) <= MAX_MRI_FILES:
        raise Invalid(f"send 1 to {MAX_MRI_FILES} files (t1, t1ce, t2, flair), not {len(files)}")
    for number, file in enumerate(files, 1):
        require_nifti(file.stream, f"file {number}")
    hashes = [_sha256(file.stream) for file in files]
    if len(set(hashes)) < len(hashes):
        raise Invalid("two of the files have the same content; send each sequence once")
    digest = _digest(files, hashes)
    repository = UploadRepository(unit.session)
    if not duplicate and (known := repository.find_known(user.user_id, digest)):
        return _sent_again(unit, known, started=_start_again(unit, repository, known))
    study = new_study(unit, user.user_id, "brain-mri", patient)
    study.digest, study.duplicate = digest, duplicate
    return _store(unit, repository, study, files, hashes)


def _start_again(unit: UnitOfWork, repository: UploadRepository, study: Study) -> bool:
    """A known study that stands still, through no fault of its files, is taken up again where it stopped."""
    if repository.restart_ingest(study):
        announce(unit, study)
    elif repository.restart_analysis(study):
        unit.emit(StudyIngested(study_id=study.id, kind=study.kind))
    else:
        return False
    return True


def _store(
    unit: UnitOfWork,
    repository: UploadRepository,
    study: Study,
    files: Sequence[Incoming],
    hashes: Sequence[str],
) -> Received:
    prefix = f"{unit.tenant_id}/{study.id}/"
    try:
        for file, sha256 in zip(files, hashes, strict=True):
            study.files.append(_put(unit, study.id, f"{prefix}original/", file, sha256))
        if (known := repository.add_unless_known(study)) is not None:
            unit.storage.delete_prefix("studies", prefix)
            return _sent_again(unit, known, started=False)
        announce(unit, study)
    except BaseException:
        unit.storage.delete_prefix("studies", prefix)
        raise
    _note(unit, "study.create", study, {"files": len(files)})
    return Received(study, known=False, started=True)


def _sent_again(unit: UnitOfWork, study: Study, *, started: bool) -> Received:
    _note(unit, "study.resend", study, {"started": started})
    return Received(study, known=True, started=started)


def _note(unit: UnitOfWork, action: str, study: Study, details: dict[str, int]) -> None:
    unit.audit(action, subject=("study", study.id), patient_id=study.patient_id, details=details)


def _put(unit: UnitOfWork, study_id: UUID, prefix: str, file: Incoming, sha256: str) -> StudyFile:
    suffix = ".nii.gz" if file.stream.read(2) == b"\x1f\x8b" else ".nii"
    file.stream.seek(0)
    ref = unit.storage.put("studies", f"{prefix}{uuid7()}{suffix}", file.stream, "application/octet-stream")
    known = ref.model_copy(update={"sha256": sha256})
    return received_file(unit, study_id, known, file.filename, file.declared_modality)


def _digest(files: Sequence[Incoming], hashes: Sequence[str]) -> str:
    """One hash for a set of files, whatever their order and names."""
    lines = sorted(
        f"{sha256} {file.declared_modality or ''}" for file, sha256 in zip(files, hashes, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _sha256(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    stream.seek(0)
    return digest.hexdigest()
