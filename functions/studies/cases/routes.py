"""HTTP of cases."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Body, Query, Response

from functions.studies.cases import service
from functions.studies.cases.repository import ORDERS, CaseRepository, location_of
from functions.studies.cases.schemas import CaseChange, CaseImage, CaseOut, CaseStatusName, CaseWhole, NewCase
from functions.studies.files.service import file_out
from functions.studies.filters import PSEUDONYM
from functions.studies.schemas import StudySummary
from functions.studies.service import summary_of
from shared.db.models import Case, Study, StudyFile
from shared.errors import Conflict, Forbidden, Invalid, NotFound, PreconditionFailed, Unauthenticated
from shared.http.access import StudiesReader, StudiesWriter
from shared.http.deps import Unit
from shared.http.etags import IfMatch, etag_of
from shared.http.idempotency import IDEMPOTENT, Once
from shared.http.paging import Page, PagingDep, order_of
from shared.http.problems import problem_responses

router = APIRouter(
    prefix="/cases", tags=["cases"], responses=problem_responses(Unauthenticated, Forbidden, Invalid)
)
MISSING = problem_responses(NotFound)
SHOWN = 200
"""Studies that a case is shown with, at most."""
_NEW = {"patient_id": "P-0193", "age": 61, "sex": "female", "diagnosis": "Suspected glioma"}
_CHANGE = {"status": "in_progress", "notes": "Second opinion asked for"}
Sort = Annotated[
    Literal["created_at", "-created_at", "updated_at", "-updated_at", "patient_id", "-patient_id"],
    Query(description="with `-`, the newest or largest first"),
]


@router.post("", status_code=201, summary="Make a case", responses=IDEMPOTENT)
def create_case(
    unit: Unit,
    user: StudiesWriter,
    response: Response,
    new: Annotated[NewCase, Body(openapi_examples={"new": {"value": _NEW}})],
    once: Once,
) -> CaseOut:
    """A case of one patient, under a pseudonym, which is made where none is given."""
    case = service.create(unit, user, new)
    response.headers["Location"] = location_of(case.id)
    response.headers["ETag"] = etag_of(case.updated_at)
    return once.keep(CaseOut.model_validate(case), response)


@router.get("", summary="Cases")
def list_cases(
    unit: Unit,
    user: StudiesReader,
    paging: PagingDep,
    status: Annotated[CaseStatusName | None, Query(description="only cases of this status")] = None,
    patient_id: Annotated[
        str | None, Query(pattern=PSEUDONYM, description="only cases of this patient (pseudonym)")
    ] = None,
    sort: Sort = "-created_at",
) -> Page[CaseOut]:
    """Your cases, newest first; an administrator sees the tenant's."""
    query = CaseRepository(unit.session, user).listed(status, patient_id)
    rows, cursor = paging.fetch_sorted(unit.session, query, Case.id, order_of(sort, ORDERS))
    service.note_list(unit, rows)
    return Page(items=[CaseOut.model_validate(case) for case in rows], next_cursor=cursor)


@router.get("/{id}", summary="A case", responses=MISSING)
def read_case(id: UUID, unit: Unit, user: StudiesReader, response: Response) -> CaseWhole:
    """A case with its studies; its ETag goes into If-Match when you change it."""
    cases = CaseRepository(unit.session, user)
    case = service.find(cases, id)
    rows = unit.session.scalars(cases.studies(id).order_by(Study.id.desc()).limit(SHOWN)).all()
    service.note(unit, "case.read", case, {"studies": [study.id for study in rows]})
    response.headers["ETag"] = etag_of(case.updated_at)
    shown = CaseOut.model_validate(case).model_dump()
    return CaseWhole(**shown, studies=[summary_of(unit, study, StudySummary) for study in rows])


@router.patch(
    "/{id}", summary="Change a case", responses=problem_responses(NotFound, Conflict, PreconditionFailed)
)
def change_case(
    id: UUID,
    unit: Unit,
    user: StudiesWriter,
    response: Response,
    change: Annotated[CaseChange, Body(openapi_examples={"change": {"value": _CHANGE}})],
    if_match: IfMatch = None,
) -> CaseOut:
    """Fields that are not sent stay. The patient cannot be changed while the case has studies (409)."""
    case = service.change(unit, user, id, change, if_match)
    response.headers["ETag"] = etag_of(case.updated_at)
    return CaseOut.model_validate(case)


@router.delete("/{id}", status_code=204, summary="Delete a case", responses=MISSING)
def delete_case(
    id: UUID,
    unit: Unit,
    user: StudiesWriter,
    studies: Annotated[
        Literal["keep", "delete"],
        Query(description="what becomes of its studies: they stay, in no case; or yours go too, for good"),
    ] = "keep",
) -> None:
    """Its studies stay, unless you say `?studies=delete`."""
    service.delete(unit, user, id, with_studies=studies == "delete")


@router.get("/{id}/images", summary="Files of a case", responses=MISSING)
def list_images(id: UUID, unit: Unit, user: StudiesReader, paging: PagingDep) -> Page[CaseImage]:
    """The files of all its studies, newest first."""
    cases = CaseRepository(unit.session, user)
    case = service.find(cases, id)
    rows, cursor = paging.fetch(unit.session, cases.files(id), StudyFile.id)
    service.note(unit, "case.images", case, {"files": [file.id for file in rows]})
    images = [
        CaseImage(
            **file_out(unit, user, file).model_dump(include=set(CaseImage.model_fields)),
            study_id=file.study_id,
            kind=file.study.kind,
            uploaded_at=file.created_at,
        )
        for file in rows
    ]
    return Page(items=images, next_cursor=cursor)
