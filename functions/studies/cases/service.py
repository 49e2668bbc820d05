"""What people do with cases."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from functions.studies.cases.repository import CaseRepository
from functions.studies.cases.schemas import CaseChange, NewCase
from functions.studies.changes import service as studies
from shared.db.models import Case, Study
from shared.errors import Conflict, NotFound
from shared.http.etags import etag_of, require_match
from shared.ids import uuid7
from shared.intake import generate_patient_id
from shared.runtime import UnitOfWork
from shared.security.audit import Detail
from shared.security.policy import Action
from shared.security.principal import Principal


def find(cases: CaseRepository, id: UUID) -> Case:
    """The case, or NotFound also where the viewer may not see it."""
    case = cases.get(id)
    if case is None:
        raise _missing(id)
    return case


def create(unit: UnitOfWork, caller: Principal, new: NewCase) -> Case:
    """A case of the caller's."""
    case = Case(
        id=uuid7(),
        tenant_id=unit.tenant_id,
        owner_id=caller.user_id,
        patient_id=new.patient_id or generate_patient_id(),
        **new.values(),
    )
    unit.session.add(case)
    unit.session.flush()
    note(unit, "case.create", case)
    return case


def change(unit: UnitOfWork, caller: Principal, id: UUID, change: CaseChange, if_match: str | None) -> Case:
    """Set the named fields. Raises NotFound, PreconditionFailed, Conflict for a new patient of a case with studies."""
    cases = _writable(unit, caller)
    case = _locked(cases, id)
    require_match(if_match, etag_of(case.updated_at))
    changes = change.changes(case)
    moved: dict[str, Detail] = {}
    if "patient_id" in changes:
        if cases.has_studies(id):
            raise Conflict(
                "the case has studies of its patient; take them out first (PATCH /studies/{id} with case_id null)"
            )
        moved = {"former_patient": case.patient_id}
    for name, value in changes.items():
        setattr(case, name, value)
    unit.session.flush()
    unit.session.refresh(case)
    note(unit, "case.update", case, {"fields": sorted(changes), **moved})
    return case


def delete(unit: UnitOfWork, caller: Principal, id: UUID, *, with_studies: bool) -> None:
    """Delete a case. Its studies stay, in no case; or those of them go that the caller may delete. Raises NotFound."""
    cases = _writable(unit, caller)
    case = _locked(cases, id)
    ids = unit.session.scalars(cases.studies(id).with_only_columns(Study.id)).all()
    gone = studies.writable(unit, caller).lock(ids) if with_studies else []
    for study in gone:
        studies.delete(unit, study)
    cases.delete(case)
    note(unit, "case.delete", case, {"studies": [study.id for study in gone]})


def note(unit: UnitOfWork, action: str, case: Case, details: Mapping[str, Detail] | None = None) -> None:
    """Record that the caller did something to a case."""
    unit.audit(action, subject=("case", case.id), patient_id=case.patient_id, details=details)


def note_list(unit: UnitOfWork, rows: Sequence[Case]) -> None:
    """Record which cases, of which patients, the caller was shown."""
    patients = sorted({case.patient_id for case in rows})
    unit.audit("case.list", details={"cases": [case.id for case in rows], "patients": patients})


def _writable(unit: UnitOfWork, caller: Principal) -> CaseRepository:
    return CaseRepository(unit.session, caller, Action.STUDIES_WRITE)


def _locked(cases: CaseRepository, id: UUID) -> Case:
    case = cases.lock(id)
    if case is None:
        raise _missing(id)
    return case


def _missing(id: UUID) -> NotFound:
    return NotFound(f"no case {id}")
