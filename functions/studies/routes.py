"""HTTP of studies, and of brain MRI scans as a view of them."""

from uuid import UUID

from fastapi import APIRouter, Response

from functions.studies.filters import FiltersDep, KindFilter, Sort
from functions.studies.repository import ORDERS, StudyRepository
from functions.studies.schemas import ScanOut, ScanSummary, StudyOut, StudySummary
from functions.studies.service import describe_study, find_study, note_list, summary_of
from shared.db.models import Study
from shared.errors import Forbidden, NotFound, Unauthenticated
from shared.http.access import StudiesReader
from shared.http.deps import Unit
from shared.http.etags import etag_of
from shared.http.paging import Page, PagingDep, order_of
from shared.http.problems import problem_responses

router = APIRouter(tags=["studies"], responses=problem_responses(Unauthenticated, Forbidden))
MISSING = problem_responses(NotFound)


@router.get("/studies")
def list_studies(
    unit: Unit,
    user: StudiesReader,
    paging: PagingDep,
    wanted: FiltersDep,
    kind: KindFilter = None,
    sort: Sort = "-created_at",
) -> Page[StudySummary]:
    """Your studies, newest first; an administrator sees the tenant's."""
    query = StudyRepository(unit.session, user).listed(wanted, kind)
    rows, cursor = paging.fetch_sorted(unit.session, query, Study.id, order_of(sort, ORDERS))
    note_list(unit, rows)
    return Page(items=[summary_of(unit, study, StudySummary) for study in rows], next_cursor=cursor)


@router.get("/studies/{id}", responses=MISSING)
def get_study(id: UUID, unit: Unit, user: StudiesReader, response: Response) -> StudyOut:
    """A study with its files, task and results; its ETag goes into If-Match when you change it."""
    studies = StudyRepository(unit.session, user)
    study = find_study(studies, id)
    response.headers["ETag"] = etag_of(study.updated_at)
    return describe_study(unit, user, studies, study, StudyOut)


@router.get("/scans")
def list_scans(
    unit: Unit, user: StudiesReader, paging: PagingDep, wanted: FiltersDep, sort: Sort = "-created_at"
) -> Page[ScanSummary]:
    """Your brain MRI scans, newest first."""
    query = StudyRepository(unit.session, user).listed(wanted, "brain-mri")
    rows, cursor = paging.fetch_sorted(unit.session, query, Study.id, order_of(sort, ORDERS))
    note_list(unit, rows)
    return Page(items=[summary_of(unit, study, ScanSummary) for study in rows], next_cursor=cursor)


@router.get("/scans/{id}", responses=MISSING)
def get_scan(id: UUID, unit: Unit, user: StudiesReader) -> ScanOut:
    """A brain MRI: status, progress, pipeline step, results."""
    studies = StudyRepository(unit.session, user)
    return describe_study(unit, user, studies, find_study(studies, id, "brain-mri"), ScanOut)
