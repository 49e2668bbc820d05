"""What becomes of files that are there: looked at, hashed, stored, and made a study, once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO
from uuid import UUID

from functions.upload.first_look import first_look
from functions.upload.parts.sizes import check_size
from functions.upload.repository import UploadRepository
from shared.db.models import Case, Study, StudyFile, Upload
from shared.errors import Conflict, Invalid
from shared.events import StudyIngested
from shared.events.types import Kind
from shared.formats.types import Identified
from shared.intake import NOBODY, Patient, announce, content_digest, new_study, received_file, storable
from shared.quota import expect_room, require_room
from shared.runtime import UnitOfWork
from shared.security.audit import Detail
from shared.security.sealing import name_ring
from shared.storage.blocks import sha256_of
from shared.storage.port import Bucket, ObjectNotFound, ObjectRef

BUCKET: Bucket = "incoming"


@dataclass(frozen=True)
class Incoming:
    """One file of a form."""

    stream: IO[bytes]
    filename: str
    declared_modality: str | None


@dataclass(frozen=True)
class About:
    """What the sender says of a study."""

    kind: Kind | None = None
    patient: Patient = NOBODY
    case: Case | None = None
    name: str | None = None
    duplicate: bool = False


@dataclass(frozen=True)
class Received:
    """What became of what was sent: its study, whether that was known, and whether work on it was started."""

    study: Study
    known: bool
    started: bool


@dataclass(frozen=True)
class Looked:
    """A file of a form, with what its first bytes and all of its bytes tell."""

    file: Incoming
    found: Identified
    size: int
    sha256: str


def look_at(
    unit: UnitOfWork, files: Sequence[Incoming], kind: Kind | None, *, alone: bool = False
) -> list[Looked]:
    """Look at files of a form before anything of them is stored. Raises UnsupportedImage, Invalid, TooLarge.

    alone: it is all that the study has.
    """
    looked = []
    for number, file in enumerate(files, 1):
        found, size = first_look(file.stream, f"file {number}", kind, alone=alone)
        check_size(unit.services.settings, size, kind, whole=len(files) == 1)
        looked.append(Looked(file, found, size, sha256_of(file.stream)))
        file.stream.seek(0)
    return looked


def receive(
    unit: UnitOfWork, owner_id: UUID, about: About, files: Sequence[Looked], uploads: Sequence[Upload] = ()
) -> Received:
    """Make a study of files and of uploads that are whole, and announce it. What is known already is not stored again.

    Uploads must be locked, finished and of no study. What is left in storage without a row, by a kill or a failed
    commit, `functions.upload.sweep` removes. Raises Conflict, QuotaExceeded.
    """
    if not files and not uploads:
        raise Invalid("send at least one file: as 'files', or by the ids of finished uploads as 'uploads'")
    repository = UploadRepository(unit.session)
    digest = _digest_of(files, uploads)
    if digest and not about.duplicate and (known := repository.find_known(owner_id, digest)):
        return _known_again(unit, repository, known, about, uploads)
    expect_room(unit, sum(file.size for file in files))
    study = make_study(unit, owner_id, about, _kind_of(about, files))
    study.digest, study.duplicate = digest, about.duplicate
    return _store(unit, repository, study, about, files, uploads)


def make_study(unit: UnitOfWork, owner_id: UUID, about: About, kind: Kind | None) -> Study:
    """A study of what the sender says, not yet in the session."""
    study = new_study(unit, owner_id, kind, _patient_of(about))
    if about.case is not None:
        study.case_id = about.case.id
    if about.name and about.name.strip():
        study.name_sealed = unit.services.once(name_ring).seal(storable(about.name.strip()), study.id)
    return study


def put(unit: UnitOfWork, key: str, looked: Looked) -> ObjectRef:
    """Store a file of a form."""
    ref = unit.storage.put(BUCKET, key, looked.file.stream, looked.found.media_type)
    return ref.model_copy(update={"sha256": looked.sha256})


def row_of(unit: UnitOfWork, study_id: UUID, ref: ObjectRef, looked: Looked) -> StudyFile:
    """The row of a file that was stored, not in the session yet."""
    file = received_file(unit, study_id, ref, looked.file.filename, looked.file.declared_modality)
    file.media_type = looked.found.media_type
    return file


def note(unit: UnitOfWork, action: str, study: Study, details: dict[str, Detail]) -> None:
    """Record what was done to a study."""
    unit.audit(action, subject=("study", study.id), patient_id=study.patient_id, details=details)


def _store(
    unit: UnitOfWork,
    repository: UploadRepository,
    study: Study,
    about: About,
    files: Sequence[Looked],
    uploads: Sequence[Upload],
) -> Received:
    prefix = f"uploads/{unit.tenant_id}/{study.id}/"
    try:
        for number, file in enumerate(files, 1):
            study.files.append(row_of(unit, study.id, put(unit, f"{prefix}{number}", file), file))
        study.files.extend(_row_of_upload(unit, study.id, upload) for upload in uploads)
        if (known := repository.add_unless_known(study)) is not None:
            unit.storage.delete_prefix(BUCKET, prefix)
            return _known_again(unit, repository, known, about, uploads, begin=False)
        repository.attach(uploads, study.id)
        require_room(unit, 0)
        announce(unit, study)
    except BaseException:
        unit.storage.delete_prefix(BUCKET, prefix)
        raise
    note(unit, "study.create", study, {"files": len(study.files)})
    return Received(study, known=False, started=True)


def _known_again(
    unit: UnitOfWork,
    repository: UploadRepository,
    study: Study,
    about: About,
    uploads: Sequence[Upload],
    *,
    begin: bool = True,
) -> Received:
    if about.kind is not None and study.kind is not None and about.kind != study.kind:
        raise Conflict(
            f"these files were sent before, as {study.kind}: study {study.id}. Leave out the kind to get that study, or "
            "send duplicate=true to have another"
        )
    repository.attach(uploads, study.id)
    started = begin and _start_again(unit, repository, study)
    note(unit, "study.resend", study, {"started": started})
    return Received(study, known=True, started=started)


def _start_again(unit: UnitOfWork, repository: UploadRepository, study: Study) -> bool:
    """A known study that stands still, through no fault of its files, is taken up again where it stopped."""
    if repository.restart_ingest(study):
        announce(unit, study)
    elif study.kind is not None and repository.restart_analysis(study):
        unit.emit(StudyIngested(study_id=study.id, kind=study.kind))
    else:
        return False
    return True


def _row_of_upload(unit: UnitOfWork, study_id: UUID, upload: Upload) -> StudyFile:
    """The row of a file that was uploaded in parts. Raises Conflict where it is not there any more."""
    filename = unit.services.once(name_ring).open(upload.filename_sealed, upload.id)
    try:
        ref = unit.storage.head(BUCKET, upload.key)
    except ObjectNotFound as error:
        raise Conflict("the upload's file is there no longer; send it again in another upload") from error
    unchecked = ref.model_copy(update={"sha256": None})
    file = received_file(unit, study_id, unchecked, filename, upload.modality)
    file.media_type = upload.media_type
    file.details = {"declared_sha256": upload.sha256} if upload.sha256 else {}
    return file


def _kind_of(about: About, files: Sequence[Looked]) -> Kind | None:
    """What the sender says, or what the files' first bytes say with one voice."""
    told = {file.found.kind for file in files}
    return about.kind or (told.pop() if len(told) == 1 else None)


def _patient_of(about: About) -> Patient:
    """Raises Invalid where the case is another patient's."""
    case, patient = about.case, about.patient
    if case is None:
        return patient
    if patient.id is not None and patient.id != case.patient_id:
        raise Invalid("patient_id: the case is of another patient; leave it out, and the case's is taken")
    return Patient(patient.name, case.patient_id, patient.scan_date)


def _digest_of(files: Sequence[Looked], uploads: Sequence[Upload]) -> str | None:
    """One hash for a set of files, whatever their order and names; None where the hash of one is not known."""
    pairs = [(file.sha256, file.file.declared_modality) for file in files]
    pairs += [(upload.sha256, upload.modality) for upload in uploads if upload.sha256]
    if len(pairs) < len(files) + len(uploads):
        return None
    return content_digest(pairs)
