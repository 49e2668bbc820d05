"""What uploads in parts go through: started, signed part by part, finished or given up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

from functions.upload.cases.access import find_case
from functions.upload.parts import repository
from functions.upload.parts.joining import join_parts, received_parts
from functions.upload.parts.schemas import FinishRequest, SignedPart, UploadRequest
from functions.upload.parts.sizes import bytes_of_part, check_size, count_parts, part_size
from functions.upload.receiving import BUCKET, About, receive
from functions.upload.slides.names import names_a_slide
from shared.db.models import Case, Upload, UploadStatus
from shared.errors import Conflict, Invalid, NotFound
from shared.events.types import Kind
from shared.ids import uuid7
from shared.intake import Patient, storable
from shared.quota import require_room
from shared.runtime import UnitOfWork
from shared.security.policy import Action
from shared.security.principal import Principal
from shared.security.sealing import name_ring
from shared.storage.port import Part, UploadNotFound


@dataclass(frozen=True)
class State:
    """An upload and what the store has of it."""

    upload: Upload
    received: Sequence[Part]


def start(unit: UnitOfWork, user: Principal, asked: UploadRequest) -> Upload:
    """Begin an upload. Raises TooLarge and Invalid for its size, NotFound for its case."""
    settings = unit.services.settings
    kind = asked.kind
    if kind is None and asked.size > settings.max_upload_bytes and names_a_slide(asked.filename):
        kind = "slide"  # nothing else may be so large
    check_size(settings, asked.size, kind)
    part_bytes = part_size(asked.size, asked.part_bytes)
    if asked.case_id is not None:
        find_case(unit.session, user, asked.case_id)
    require_room(unit, asked.size)
    names, upload_id = unit.services.once(name_ring), uuid7()
    key = f"uploads/{unit.tenant_id}/{upload_id}/1"
    name = (asked.patient_name or "").strip()
    upload = Upload(
        id=upload_id,
        tenant_id=unit.tenant_id,
        owner_id=user.user_id,
        kind=kind,
        filename_sealed=names.seal(storable(asked.filename), upload_id),
        size=asked.size,
        part_bytes=part_bytes,
        sha256=asked.sha256,
        media_type=asked.media_type,
        key=key,
        storage_id=unit.storage.start_multipart(BUCKET, key, asked.media_type, part_bytes),
        expires_at=_in(hours=settings.upload_hours),
        patient_id=asked.patient_id,
        patient_name_sealed=names.seal(name, upload_id) if name else None,
        scan_date=asked.scan_date,
        case_id=asked.case_id,
        modality=asked.modality,
        duplicate=asked.duplicate,
    )
    unit.session.add(upload)
    unit.session.flush()
    details = {"size": asked.size, "kind": kind}
    unit.audit("upload.start", subject=("upload", upload_id), patient_id=asked.patient_id, details=details)
    return upload


def find(unit: UnitOfWork, user: Principal, id: UUID, action: Action = Action.STUDIES_WRITE) -> Upload:
    """The upload, or NotFound also where the caller may not see it."""
    upload = repository.find(unit.session, user, id, action)
    if upload is None:
        raise NotFound(f"no upload {id}")
    return upload


def lock(unit: UnitOfWork, user: Principal, id: UUID) -> Upload:
    """The same, and nobody else changes it meanwhile."""
    found = repository.lock(unit.session, user, [id])
    if not found:
        raise NotFound(f"no upload {id}")
    return found[0]


def status_of(upload: Upload) -> UploadStatus:
    """Where it stands; one whose time is over has expired, also before that was noted and its bytes were removed."""
    status = UploadStatus(upload.status)
    waits = upload.study_id is None and status in (UploadStatus.OPEN, UploadStatus.FINISHED)
    return UploadStatus.EXPIRED if waits and upload.expires_at <= datetime.now(UTC) else status


def state_of(unit: UnitOfWork, upload: Upload) -> State:
    """The upload with its parts; of one that has ended, none."""
    if status_of(upload) != UploadStatus.OPEN:
        return State(upload, [])
    return State(upload, received_parts(unit.storage, upload))


def sign(unit: UnitOfWork, upload: Upload, numbers: Sequence[int]) -> list[SignedPart]:
    """Where these parts go. Raises Conflict where none are taken any more, Invalid for numbers that there are not."""
    _require_open(unit, upload)
    count = count_parts(upload.size, upload.part_bytes)
    if max(numbers) > count:
        raise Invalid(f"numbers: the upload has {count:,} parts, so there is none of number {max(numbers):,}")
    life = timedelta(minutes=unit.services.settings.url_minutes)
    expires_at = datetime.now(UTC) + life
    try:
        return [
            SignedPart(
                number=number,
                url=unit.storage.sign_part(BUCKET, upload.key, upload.storage_id, number, life),
                size=bytes_of_part(upload.size, upload.part_bytes, number),
                expires_at=expires_at,
            )
            for number in numbers
        ]
    except UploadNotFound as error:
        raise Conflict("the store takes no more parts of this upload; finish it, or abort it") from error


def finish(unit: UnitOfWork, user: Principal, upload: Upload, asked: FinishRequest) -> bool:
    """Join the parts of a locked upload and, where asked for, make a study of it; False where that was done before.

    The store's part of this is not undone when the transaction fails or the process dies: whoever finishes next finds
    the object, and goes on. Raises Conflict, Invalid.
    """
    changed = False
    if upload.status != UploadStatus.FINISHED:
        _require_open(unit, upload)
    _declare(upload, asked.sha256)
    if upload.status != UploadStatus.FINISHED:
        join_parts(unit.storage, upload, asked.parts)
        upload.status = UploadStatus.FINISHED
        upload.expires_at = _in(hours=unit.services.settings.upload_hours)
        unit.audit("upload.finish", subject=("upload", upload.id), details={"size": upload.size})
        changed = True
    if asked.study and upload.study_id is None:
        require_unexpired(upload)
        about = _about(unit, user, upload)
        receive(unit, _owner_of(upload, about.case), about, [], [upload])
        changed = True
    unit.session.flush()
    return changed


def abort(unit: UnitOfWork, upload: Upload) -> None:
    """Give a locked upload up, with all that was received of it. Raises Conflict where a study has it."""
    if upload.study_id is not None:
        raise Conflict(f"the upload became part of study {upload.study_id}; delete that")
    if upload.status not in (UploadStatus.OPEN, UploadStatus.FINISHED):
        return
    drop(unit, upload)
    upload.status = UploadStatus.ABORTED
    unit.audit("upload.abort", subject=("upload", upload.id), details={"size": upload.size})


def drop(unit: UnitOfWork, upload: Upload) -> None:
    """Remove all that the store has of an upload."""
    unit.storage.abort_multipart(BUCKET, upload.key, upload.storage_id)
    unit.storage.delete(BUCKET, upload.key)


def kind_of(upload: Upload) -> Kind | None:
    """What the sender said that it is."""
    return cast(Kind | None, upload.kind)  # the table takes no others


def _about(unit: UnitOfWork, user: Principal, upload: Upload) -> About:
    name = unit.services.once(name_ring).open_if_possible(upload.patient_name_sealed, upload.id)
    case = find_case(unit.session, user, upload.case_id) if upload.case_id else None
    patient = Patient(name, upload.patient_id, upload.scan_date)
    return About(kind_of(upload), patient, case, duplicate=upload.duplicate)


def _owner_of(upload: Upload, case: Case | None) -> UUID:
    return case.owner_id if case else upload.owner_id


def _declare(upload: Upload, sha256: str | None) -> None:
    """Note what the file is checked against. Raises Conflict for another hash than before, or one that comes too late."""
    if sha256 is None or sha256 == upload.sha256:
        return
    if upload.sha256 is not None:
        raise Conflict("sha256: another one was declared before; is it the same file?")
    if upload.study_id is not None:
        raise Conflict("sha256: it comes too late, the file was given to a study without one")
    upload.sha256 = sha256


def _require_open(unit: UnitOfWork, upload: Upload) -> None:
    if upload.status != UploadStatus.OPEN:
        raise Conflict(f"the upload is {upload.status}; start another one to send something")
    if not repository.is_open(unit.session, upload):
        raise Conflict("the upload has expired; start another one")


def require_unexpired(upload: Upload) -> None:
    """A file whose study was deleted, or that nobody wanted for long enough, is there no longer."""
    if upload.expires_at <= datetime.now(UTC):
        raise Conflict("the upload's file is there no longer; send it again in another upload")


def _in(hours: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)
