"""HTTP of the studies function."""

from typing import Annotated, Literal, TypeVar
from uuid import UUID

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from functions.studies.repository import StudyRepository
from functions.studies.schemas import ArtifactOut, ScanOut, ScanSummary, StudyOut, StudySummary
from functions.studies.service import (
    artifact_out,
    describe_study,
    find_artifact,
    find_study,
    modalities_of,
    note_access,
    note_list,
)
from shared.db.models import Study
from shared.errors import Forbidden, NotFound, Unauthenticated
from shared.events.types import Kind
from shared.http.access import StudiesReader
from shared.http.deps import Unit
from shared.http.files import IfNoneMatch, file_responses, serve_file
from shared.http.paging import Page, PagingDep
from shared.http.problems import problem_responses

router = APIRouter(tags=["studies"], responses=problem_responses(Unauthenticated, Forbidden))
MISSING = problem_responses(NotFound)

S = TypeVar("S", bound=StudySummary)
Status = Annotated[
    Literal["receiving", "ingested", "processing", "completed", "rejected"] | None,
    Query(description="only studies of this status"),
]


@router.get("/studies")
def list_studies(
    unit: Unit, user: StudiesReader, paging: PagingDep, kind: Kind | None = None, status: Status = None
) -> Page[StudySummary]:
    """Your studies, newest first; an administrator sees the tenant's."""
    query = StudyRepository(unit.session, user).visible(kind, status)
    rows, cursor = paging.fetch(unit.session, query, Study.id)
    note_list(unit, rows)
    return Page(items=[_summary(study, StudySummary) for study in rows], next_cursor=cursor)


@router.get("/studies/{id}", responses=MISSING)
def get_study(id: UUID, unit: Unit, user: StudiesReader) -> StudyOut:
    """A study with its files, task and results."""
    studies = StudyRepository(unit.session, user)
    return describe_study(unit, studies, find_study(studies, id), StudyOut)


@router.get("/scans")
def list_scans(
    unit: Unit, user: StudiesReader, paging: PagingDep, status: Status = None
) -> Page[ScanSummary]:
    """Your brain MRI scans, newest first."""
    query = StudyRepository(unit.session, user).visible("brain-mri", status)
    rows, cursor = paging.fetch(unit.session, query, Study.id)
    note_list(unit, rows)
    return Page(items=[_summary(study, ScanSummary) for study in rows], next_cursor=cursor)


@router.get("/scans/{id}", responses=MISSING)
def get_scan(id: UUID, unit: Unit, user: StudiesReader) -> ScanOut:
    """A brain MRI: status, progress, pipeline step, results."""
    studies = StudyRepository(unit.session, user)
    return describe_study(unit, studies, find_study(studies, id, "brain-mri"), ScanOut)


@router.get("/studies/{id}/artifacts", responses=MISSING)
def list_artifacts(id: UUID, unit: Unit, user: StudiesReader) -> list[ArtifactOut]:
    """The files that the newest task made."""
    studies = StudyRepository(unit.session, user)
    study = find_study(studies, id)
    note_access(unit, "artifact.list", study)
    task = studies.newest_task(study.id)
    return [artifact_out(artifact) for artifact in studies.artifacts(task.id)] if task else []


@router.get(
    "/studies/{id}/artifacts/{role}",
    responses={**file_responses("*/*"), **MISSING},
    response_class=StreamingResponse,
)
def get_artifact(
    id: UUID, role: str, unit: Unit, user: StudiesReader, if_none_match: IfNoneMatch = None
) -> Response:
    """A mask, overlay or report file; its ETag is its sha256."""
    studies = StudyRepository(unit.session, user)
    study = find_study(studies, id)
    artifact = find_artifact(studies, study, role)
    note_access(unit, "artifact.read", study, {"artifact": artifact.id, "role": artifact.role})
    return serve_file(unit.storage, artifact, artifact.filename, if_none_match)


def _summary(study: Study, form: type[S]) -> S:
    fields = {name: getattr(study, name) for name in form.model_fields if hasattr(study, name)}
    return form.model_validate({**fields, "modalities": modalities_of(study)})
