"""What becomes of a form: its files, and uploads that were finished before, are one study."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from functions.upload.cases.access import find_case
from functions.upload.parts import repository
from functions.upload.parts.service import kind_of, require_unexpired
from functions.upload.parts.sizes import check_size
from functions.upload.receiving import About, Incoming, Received, look_at, note, receive
from shared.db.models import Study, Upload, UploadStatus
from shared.errors import Conflict, Invalid, NotFound
from shared.events.types import Kind
from shared.intake import Patient
from shared.runtime import UnitOfWork
from shared.security.principal import Principal
from shared.security.sealing import name_ring

T = TypeVar("T")


@dataclass(frozen=True)
class Form:
    """One request for a study. uploads: ids of finished uploads in parts."""

    files: Sequence[Incoming]
    kind: Kind | None
    patient: Patient
    uploads: Sequence[UUID] = ()
    case_id: UUID | None = None
    name: str | None = None
    duplicate: bool = False


def receive_form(unit: UnitOfWork, user: Principal, form: Form) -> Received:
    """Make a study of the form. What it leaves open, its uploads may say.

    Raises NotFound for an upload or case that the caller does not have, Conflict for an upload that cannot be used, and
    what `look_at` and `receive` raise.
    """
    uploads = _uploads(unit, user, form.uploads)
    if uploads and (study := _study_of(unit, uploads)) is not None:
        if form.files:
            raise Conflict(f"the uploads became study {study.id} before, so no file can be added to them")
        note(unit, "study.resend", study, {"started": False})
        return Received(study, known=True, started=False)
    for upload in uploads:
        _require_usable(unit, upload, form.kind)
    case_id = form.case_id or _first(upload.case_id for upload in uploads)
    case = find_case(unit.session, user, case_id) if case_id else None
    about = About(
        form.kind or _kind_of(uploads),
        _patient(unit, form.patient, uploads),
        case,
        form.name,
        form.duplicate or any(upload.duplicate for upload in uploads),
    )
    looked = look_at(unit, form.files, about.kind, alone=len(form.files) + len(uploads) == 1)
    return receive(unit, case.owner_id if case else user.user_id, about, looked, uploads)


def _uploads(unit: UnitOfWork, user: Principal, ids: Sequence[UUID]) -> list[Upload]:
    """The uploads in the order that was asked for, locked."""
    if len(set(ids)) < len(ids):
        raise Invalid("uploads: one is named twice; name each once")
    found = {upload.id: upload for upload in repository.lock(unit.session, user, ids)} if ids else {}
    for named in ids:
        if named not in found:
            raise NotFound(f"no upload {named}")
    return [found[named] for named in ids]


def _study_of(unit: UnitOfWork, uploads: Sequence[Upload]) -> Study | None:
    """The study that has all of these uploads. Raises Conflict where it has only some of them."""
    studies = {upload.study_id for upload in uploads}
    taken = [upload for upload in uploads if upload.study_id is not None]
    if taken and len(studies) > 1:
        raise Conflict(
            f"upload {taken[0].id} became part of study {taken[0].study_id} before; send the file again"
        )
    return unit.session.get(Study, taken[0].study_id) if taken else None


def _require_usable(unit: UnitOfWork, upload: Upload, kind: Kind | None) -> None:
    if upload.status != UploadStatus.FINISHED:
        raise Conflict(f"upload {upload.id} is {upload.status}; a study is made of finished ones")
    require_unexpired(upload)
    if kind is not None and upload.kind is not None and upload.kind != kind:
        raise Conflict(
            f"upload {upload.id} was started as {upload.kind}, so it can be no part of a study of kind {kind}"
        )
    check_size(unit.services.settings, upload.size, kind or upload.kind)


def _kind_of(uploads: Sequence[Upload]) -> Kind | None:
    kinds = {kind for upload in uploads if (kind := kind_of(upload))}
    if len(kinds) > 1:
        raise Conflict(f"the uploads were started as {' and '.join(sorted(kinds))}; a study is of one kind")
    return kinds.pop() if kinds else None


def _patient(unit: UnitOfWork, said: Patient, uploads: Sequence[Upload]) -> Patient:
    names = unit.services.once(name_ring)
    return Patient(
        said.name
        or _first(names.open_if_possible(upload.patient_name_sealed, upload.id) for upload in uploads),
        said.id or _first(upload.patient_id for upload in uploads),
        said.scan_date or _first(upload.scan_date for upload in uploads),
    )


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value), None)
