"""Reports over HTTP."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from functions.reporting.repository import ReportRepository
from functions.reporting.schemas import ReportContent, ReportDetail, ReportSummary
from functions.reporting.service import get_form, get_report, note_list
from shared.db.models import Report
from shared.errors import Forbidden, Invalid, NotFound, Unauthenticated
from shared.http.access import ReportsReader
from shared.http.deps import Unit
from shared.http.files import IfNoneMatch, file_responses, serve_file
from shared.http.paging import Page, PagingDep
from shared.http.problems import problem_responses
from shared.security.policy import Action, Reach

router = APIRouter(prefix="/reports", tags=["reports"])

READ_ERRORS = problem_responses(Unauthenticated, Forbidden, NotFound, Invalid)


@router.get("", responses=problem_responses(Unauthenticated, Forbidden, Invalid))
def list_reports(
    unit: Unit,
    user: ReportsReader,
    paging: PagingDep,
    study_id: Annotated[UUID | None, Query(description="only reports of this study")] = None,
) -> Page[ReportSummary]:
    """Your reports, newest first; an administrator's list holds the whole tenant's."""
    query = ReportRepository.listed(
        None if user.reach(Action.REPORTS_READ) is Reach.TENANT else user.user_id, study_id
    )
    rows, next_cursor = paging.fetch(unit.session, query, Report.id)
    note_list(unit, rows)
    return Page(items=[_summary(row) for row in rows], next_cursor=next_cursor)


@router.get("/{id}", responses=READ_ERRORS)
def read_report(id: UUID, unit: Unit, user: ReportsReader) -> ReportDetail:
    """One report as structured content; numbers are exact, units are UCUM."""
    report = get_report(unit, user, id, "json")
    content = ReportContent.model_validate(report.content)
    return ReportDetail(**_summary(report).model_dump(), content=content)


@router.get(
    "/{id}/pdf",
    response_class=Response,
    responses={**READ_ERRORS, **file_responses("application/pdf")},
)
def read_pdf(id: UUID, unit: Unit, user: ReportsReader, if_none_match: IfNoneMatch = None) -> Response:
    """The report as PDF."""
    return serve_file(unit.storage, get_form(unit, user, id, "pdf"), f"report-{id}.pdf", if_none_match)


@router.get(
    "/{id}/html",
    response_class=Response,
    responses={**READ_ERRORS, **file_responses("text/html")},
)
def read_html(id: UUID, unit: Unit, user: ReportsReader, if_none_match: IfNoneMatch = None) -> Response:
    """The report as one self-contained page."""
    return serve_file(unit.storage, get_form(unit, user, id, "html"), f"report-{id}.html", if_none_match)


def _summary(report: Report) -> ReportSummary:
    return ReportSummary(
        id=report.id,
        study_id=report.study_id,
        task_id=report.task_id,
        owner_id=report.owner_id,
        title=report.title,
        impression=report.content["narrative"]["impression"],
        created_at=report.created_at,
    )
