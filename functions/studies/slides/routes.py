"""HTTP of slides."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Response
from sqlalchemy.orm import selectinload

from functions.studies.changes import service as changes
from functions.studies.changes.schemas import SlideChange
from functions.studies.filters import FiltersDep, Sort
from functions.studies.repository import ORDERS, StudyRepository
from functions.studies.service import find_study, lock_study, note_access, note_list
from functions.studies.slides.schemas import BulkDelete, BulkDeleted, SlideOut
from functions.studies.slides.service import slide_out
from shared.db.models import Study
from shared.errors import Forbidden, Invalid, NotFound, PreconditionFailed, Unauthenticated
from shared.http.access import StudiesReader, StudiesWriter
from shared.http.deps import Unit
from shared.http.etags import IfMatch, etag_of
from shared.http.paging import Page, PagingDep, order_of
from shared.http.problems import problem_responses
from shared.security.audit import Detail

router = APIRouter(
    prefix="/slides", tags=["slides"], responses=problem_responses(Unauthenticated, Forbidden, Invalid)
)
MISSING = problem_responses(NotFound)
SLIDE = "slide"
ONE = "/{id:uuid}"
"""Of an id only: `/slides/bulk-delete` is no slide, whatever the method."""


@router.get("", summary="Slides")
def list_slides(
    unit: Unit, user: StudiesReader, paging: PagingDep, wanted: FiltersDep, sort: Sort = "-created_at"
) -> Page[SlideOut]:
    """Your slides, newest first; an administrator sees the tenant's. Names are encrypted, so there is no search in them."""
    query = StudyRepository(unit.session, user).listed(wanted, SLIDE).options(selectinload(Study.files))
    rows, cursor = paging.fetch_sorted(unit.session, query, Study.id, order_of(sort, ORDERS))
    note_list(unit, rows)
    return Page(items=[slide_out(unit, user, study) for study in rows], next_cursor=cursor)


@router.get(ONE, summary="A slide", responses=MISSING)
def get_slide(id: UUID, unit: Unit, user: StudiesReader, response: Response) -> SlideOut:
    """A slide, and where it can be looked at; its ETag goes into If-Match when you change it."""
    study = find_study(StudyRepository(unit.session, user), id, SLIDE)
    note_access(unit, "study.read", study)
    response.headers["ETag"] = etag_of(study.updated_at)
    return slide_out(unit, user, study)


@router.patch(ONE, summary="Name a slide", responses=problem_responses(NotFound, PreconditionFailed))
def rename_slide(
    id: UUID,
    unit: Unit,
    user: StudiesWriter,
    response: Response,
    change: Annotated[SlideChange, Body(openapi_examples={"change": {"value": {"name": "Biopsy 2, H&E"}}})],
    if_match: IfMatch = None,
) -> SlideOut:
    """Its name is kept encrypted."""
    study = changes.change(unit, user, id, {"name": change.name}, if_match, SLIDE)
    response.headers["ETag"] = etag_of(study.updated_at)
    return slide_out(unit, user, study)


@router.delete(ONE, status_code=204, summary="Delete a slide", responses=MISSING)
def delete_slide(id: UUID, unit: Unit, user: StudiesWriter) -> None:
    """With all that was found in it, for good."""
    changes.delete(unit, lock_study(changes.writable(unit, user), id, SLIDE))


@router.post("/bulk-delete", summary="Delete several slides")
def delete_slides(unit: Unit, user: StudiesWriter, wanted: BulkDelete) -> BulkDeleted:
    """All of them or, where something goes wrong, none; asked again, those that are gone are not found."""
    deleted = changes.delete_many(unit, user, wanted.ids, SLIDE)
    not_found = sorted(set(wanted.ids) - set(deleted))
    if not_found:  # whoever tries the ids of others shall be seen
        details: dict[str, Detail] = {"route": "/slides/bulk-delete", "ids": not_found}
        unit.audit("access.refused", details=details, outcome="failure")
    return BulkDeleted(deleted=deleted, not_found=not_found)
