"""What people do to studies."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import null

from functions.studies.changes import repository
from functions.studies.changes.schemas import Changes, Release
from functions.studies.repository import StudyRepository
from functions.studies.service import find_study, lock_study, note_access
from shared.db.models import Case, Study, StudyStatus
from shared.errors import Conflict, Invalid
from shared.events import StudyDeleted, StudyRejected
from shared.http.etags import etag_of, require_match
from shared.incoming import remove_versions
from shared.intake import announce
from shared.runtime import UnitOfWork
from shared.security.policy import Action
from shared.security.principal import Principal
from shared.security.sealing import name_ring

REJECTED_BY_PERSON = "a person who looked at the images rejected them"


def writable(unit: UnitOfWork, caller: Principal) -> StudyRepository:
    """The studies that the caller may change."""
    return StudyRepository(unit.session, caller, Action.STUDIES_WRITE)


def change(
    unit: UnitOfWork,
    caller: Principal,
    id: UUID,
    changes: Changes,
    if_match: str | None,
    kind: str | None = None,
) -> Study:
    """Set the named fields of a study. Reports that were written already keep the pseudonym that they were written with.

    Raises NotFound, PreconditionFailed, Invalid for a case that is not the caller's, Conflict for one of another patient.
    """
    studies = writable(unit, caller)
    # Before the study: whoever deletes a case locks it first, and then its studies.
    case = _case_of(unit, caller, find_study(studies, id, kind), changes)
    study = lock_study(studies, id, kind)
    require_match(if_match, etag_of(study.updated_at))
    old_patient = study.patient_id
    _place(study, case, changes)
    if "scan_date" in changes:
        study.scan_date = changes["scan_date"]
    if "name" in changes:
        _name(unit, study, changes["name"])
    unit.session.flush()
    unit.session.refresh(study, ["updated_at"])
    moved = {"former_patient": old_patient} if study.patient_id != old_patient else {}
    note_access(unit, "study.update", study, {"fields": sorted(changes), **moved})
    return study


def delete(unit: UnitOfWork, study: Study) -> None:
    """Delete a study that is locked. Its objects go after it, by its event; a task that runs ends by itself."""
    received, taken = repository.received(study), repository.taken(unit.session, study.id)
    repository.delete_study(unit.session, study.id)
    # Only these rows knew those keys. If the commit fails, the study is still there to be deleted again.
    remove_versions(unit.storage, received, taken)
    unit.emit(StudyDeleted(study_id=study.id))
    note_access(unit, "study.delete", study)


def delete_many(unit: UnitOfWork, caller: Principal, ids: Sequence[UUID], kind: str) -> list[UUID]:
    """Delete those of these studies that are of this kind and that the caller may delete; returns which."""
    found = writable(unit, caller).lock(ids, kind)
    for study in found:
        delete(unit, study)
    return [study.id for study in found]


def decide(unit: UnitOfWork, caller: Principal, id: UUID, release: Release) -> Study:
    """Let a study that is held go on, or reject it. Raises NotFound, Conflict where it is not held."""
    study = lock_study(writable(unit, caller), id)
    if study.status != StudyStatus.RECEIVING or not study.held:
        raise Conflict(f"study {id} is not held: its status is {study.status}; there is nothing to decide")
    reasons = len(study.held)
    study.held = null()
    if release.decision == "release":
        study.released_by, study.step, study.message = caller.user_id, "received", None
        announce(unit, study)
    else:
        _reject(unit, study, release.reason)
    unit.session.flush()
    unit.session.refresh(study)
    note_access(unit, "study.release", study, {"decision": release.decision, "reasons": reasons})
    return study


def _reject(unit: UnitOfWork, study: Study, reason: str | None) -> None:
    """What the person wrote stays with the study; the event, by which ingest removes its files, says only that somebody
    did."""
    study.status, study.step = StudyStatus.REJECTED, "rejected"
    study.message = (reason or "").strip() or REJECTED_BY_PERSON
    unit.emit(StudyRejected(study_id=study.id, kind=study.kind, reason=REJECTED_BY_PERSON))


def _case_of(unit: UnitOfWork, caller: Principal, study: Study, changes: Changes) -> Case | None:
    """The case that the study will be in, where that or the patient changes; it is locked. Raises Invalid."""
    if not {"case_id", "patient_id"} & changes.keys():
        return None
    case_id = changes.get("case_id", study.case_id)
    if case_id is None:
        return None
    case = repository.case_for(unit.session, caller, case_id)
    if case is None:
        raise Invalid.of("case_id", "you have no such case; POST /cases makes one")
    return case


def _place(study: Study, case: Case | None, changes: Changes) -> None:
    """Set patient and case so that they agree: a case is of one patient. A study whose pseudonym was made up takes over
    that of the case that it is put into."""
    patient_id = changes.get("patient_id")
    if "case_id" in changes:
        study.case_id = changes["case_id"]
    elif patient_id is not None and study.case_id != (case.id if case else None):
        raise Conflict("the study was put into another case at this moment; read it again")
    if case is not None:
        if patient_id is None and study.patient_id_source == "generated":
            patient_id = case.patient_id
        if (patient_id or study.patient_id) != case.patient_id:
            raise Conflict(
                f"case {case.id} is of another patient; send that patient_id too, or case_id null or of another case"
            )
    if patient_id is not None:
        study.patient_id, study.patient_id_source = patient_id, "given"


def _name(unit: UnitOfWork, study: Study, name: str | None) -> None:
    study.name_sealed = unit.services.once(name_ring).seal(name, study.id) if name else None
