"""Reports over HTTP."""

from collections.abc import Iterator
from typing import IO, Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from functions.reporting.repository import ReportRepository
from functions.reporting.schemas import ReportContent, ReportDetail, ReportSummary
from functions.reporting.service import get_form, get_report, reference
from shared.db.models import Artifact, Report
from shared.errors import Invalid, NotFound, Unauthenticated
from shared.http.deps import CurrentUser, Unit
from shared.http.paging import Page, PagingDep
from shared.http.problems import problem_responses
from shared.storage.port import Storage

router = APIRouter(prefix="/reports", tags=["reports"])

BLOCK = 64 * 1024
CLOSED_PAGE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
"""Content-Security-Policy of the HTML form: nothing runs and nothing is fetched."""
READ_ERRORS = problem_responses(Unauthenticated, NotFound, Invalid)
IfNoneMatch = Annotated[str | None, Header(description="ETag of the copy that you have")]


@router.get("", responses=problem_responses(Unauthenticated, Invalid))
def list_reports(
    unit: Unit,
    user: CurrentUser,
    paging: PagingDep,
    study_id: Annotated[UUID | None, Query(description="only reports of this study")] = None,
) -> Page[ReportSummary]:
    """Your reports, newest first; an administrator's list holds the whole tenant's."""
    query = ReportRepository.listed(None if user.is_admin else user.user_id, study_id)
    rows, next_cursor = paging.fetch(unit.session, query, Report.id)
    return Page(items=[_summary(row) for row in rows], next_cursor=next_cursor)


@router.get("/{id}", responses=READ_ERRORS)
def read_report(id: UUID, unit: Unit, user: CurrentUser) -> ReportDetail:
    """One report as structured content; numbers are exact, units are UCUM."""
    report = get_report(unit, user, id)
    content = ReportContent.model_validate(report.content)
    return ReportDetail(**_summary(report).model_dump(), content=content)


@router.get(
    "/{id}/pdf",
    response_class=Response,
    responses={
        **READ_ERRORS,
        200: {"content": {"application/pdf": {}}},
        304: {"description": "The copy is current"},
    },
)
def read_pdf(id: UUID, unit: Unit, user: CurrentUser, if_none_match: IfNoneMatch = None) -> Response:
    """The report as PDF."""
    return _file(unit.storage, get_form(unit, user, id, "pdf"), f"report-{id}.pdf", if_none_match)


@router.get(
    "/{id}/html",
    response_class=Response,
    responses={
        **READ_ERRORS,
        200: {"content": {"text/html": {}}},
        304: {"description": "The copy is current"},
    },
)
def read_html(id: UUID, unit: Unit, user: CurrentUser, if_none_match: IfNoneMatch = None) -> Response:
    """The report as one self-contained page."""
    response = _file(unit.storage, get_form(unit, user, id, "html"), f"report-{id}.html", if_none_match)
    response.headers["Content-Security-Policy"] = CLOSED_PAGE
    return response


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


def _file(storage: Storage, artifact: Artifact, filename: str, if_none_match: str | None) -> Response:
    """The stored file, in blocks; or 304 when the caller's copy is current."""
    headers = {
        "ETag": f'"{artifact.sha256}"',
        "Cache-Control": "private, no-cache",  # may be kept by the browser, asked about each time
    }
    if _matches(if_none_match, artifact.sha256):
        return Response(status_code=304, headers=headers)
    headers |= {
        "Content-Length": str(artifact.size),
        "Content-Disposition": f'inline; filename="{filename}"',
    }
    ref = reference(artifact)
    stream = storage.open(ref.bucket, ref.key)
    return StreamingResponse(_blocks(stream), headers=headers, media_type=artifact.media_type)


def _matches(if_none_match: str | None, sha256: str) -> bool:
    """Whether an If-None-Match header names this content (RFC 9110 §13.1.2, weak comparison)."""
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return "*" in tags or f'"{sha256}"' in tags


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    with stream:
        while block := stream.read(BLOCK):
            yield block
