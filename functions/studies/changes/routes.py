"""HTTP of changes to studies."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Response

from functions.studies.changes import service
from functions.studies.changes.schemas import Release, StudyChange
from functions.studies.schemas import StudySummary
from functions.studies.service import lock_study, summary_of
from shared.errors import Conflict, Forbidden, Invalid, NotFound, PreconditionFailed, Unauthenticated
from shared.http.access import StudiesWriter
from shared.http.deps import Unit
from shared.http.etags import IfMatch, etag_of
from shared.http.problems import problem_responses

router = APIRouter(
    prefix="/studies/{id}",
    tags=["studies"],
    responses=problem_responses(Unauthenticated, Forbidden, NotFound, Invalid),
)
_CHANGE = {"name": "Knee, left", "scan_date": "2026-03-05"}


@router.patch("", summary="Change a study", responses=problem_responses(Conflict, PreconditionFailed))
def change_study(
    id: UUID,
    unit: Unit,
    user: StudiesWriter,
    response: Response,
    change: Annotated[StudyChange, Body(openapi_examples={"change": {"value": _CHANGE}})],
    if_match: IfMatch = None,
) -> StudySummary:
    """Its name, patient, scan date and case. A study whose pseudonym was made up takes over that of the case that it is
    put into; any other must be of the case's patient (409). Reports that were written already stay as they are."""
    study = service.change(unit, user, id, change.changes(), if_match)
    response.headers["ETag"] = etag_of(study.updated_at)
    return summary_of(unit, study, StudySummary)


@router.delete("", status_code=204, summary="Delete a study")
def delete_study(id: UUID, unit: Unit, user: StudiesWriter) -> None:
    """With its files, results and reports, for good. A task that runs ends by itself."""
    service.delete(unit, lock_study(service.writable(unit, user), id))


@router.post("/release", summary="Decide about a study that is held", responses=problem_responses(Conflict))
def release_study(
    id: UUID,
    unit: Unit,
    user: StudiesWriter,
    response: Response,
    decision: Annotated[Release, Body(openapi_examples={"release": {"value": {"decision": "release"}}})],
) -> StudySummary:
    """Say, having looked at the images (`held` tells why), that they may be used, or reject them: then their files go.
    409 where the study is not held."""
    study = service.decide(unit, user, id, decision)
    response.headers["ETag"] = etag_of(study.updated_at)
    return summary_of(unit, study, StudySummary)
