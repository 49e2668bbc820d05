"""HTTP of the audit log."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse

from functions.studies.audit.repository import matching
from functions.studies.audit.schemas import AuditOut, Filters
from functions.studies.audit.service import described, export
from shared.db.models import AuditEntry
from shared.errors import Forbidden, Invalid, Unauthenticated
from shared.http.access import Auditor
from shared.http.deps import Unit
from shared.http.paging import Page, PagingDep
from shared.http.problems import problem_responses

router = APIRouter(
    prefix="/audit", tags=["audit"], responses=problem_responses(Unauthenticated, Forbidden, Invalid)
)

FilterDep = Annotated[Filters, Depends(Filters)]
Format = Annotated[
    Literal["json", "csv"] | None,
    Query(description="csv: everything that fits as one file; else as Accept says"),
]


@router.get(
    "",
    response_model=Page[AuditOut],
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def read_audit_log(
    unit: Unit,
    _: Auditor,
    paging: PagingDep,
    wanted: FilterDep,
    format: Format = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Page[AuditOut] | Response:
    """Who read or changed what, newest first. As CSV (`format=csv` or `Accept: text/csv`) it is not paged."""
    if format == "csv" or (format is None and "text/csv" in (accept or "")):
        unit.audit("audit.export", details={"filters": wanted.given()})
        name = f"audit-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.csv"
        return StreamingResponse(
            export(unit.services, unit.tenant_id, wanted),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )
    rows, cursor = paging.fetch(unit.session, matching(wanted), AuditEntry.id, AuditEntry.seq)
    unit.audit("audit.read", details={"filters": wanted.given(), "count": len(rows)})
    return Page(items=described(unit.session, rows), next_cursor=cursor)
