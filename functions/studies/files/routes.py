"""HTTP of what a study is made of."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from functions.studies.files.repository import series_of
from functions.studies.files.schemas import SeriesOut
from functions.studies.files.service import artifact_out, find_file, safe_name, served
from functions.studies.repository import StudyRepository
from functions.studies.schemas import ArtifactOut
from functions.studies.service import find_study, note_access
from shared.db.models import Artifact, FileRole, Study
from shared.errors import Forbidden, NotFound, Unauthenticated
from shared.http.access import StudiesReader
from shared.http.deps import Unit
from shared.http.files import IfNoneMatch, PartDep, part_responses, serve_file
from shared.http.problems import problem_responses

router = APIRouter(
    prefix="/studies/{id}",
    tags=["studies"],
    responses=problem_responses(Unauthenticated, Forbidden, NotFound),
)
MOVED: dict[int | str, dict[str, Any]] = {
    307: {"description": "A slide: the signed URL of the object store that serves it, for a short time"}
}


@router.get(
    "/files/{file_id}",
    summary="Fetch a file of a study",
    responses={**part_responses("*/*"), **MOVED},
    response_class=StreamingResponse,
)
def get_file(
    id: UUID,
    file_id: UUID,
    unit: Unit,
    user: StudiesReader,
    part: PartDep,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A volume, OCT scan, fundus picture or slide, as ingest stored it; whole, or the part that `Range` names. A slide
    is served by the object store: follow the redirect. Its ETag is its sha256."""
    study = find_study(StudyRepository(unit.session, user), id)
    file = find_file(user, study, file_id)
    note_access(unit, "file.read", study, {"file": file.id, "role": file.role})
    name = safe_name(study, file)
    if file.role == FileRole.SLIDE:
        expires = timedelta(minutes=unit.services.settings.url_minutes)
        return RedirectResponse(unit.storage.sign_get(file.bucket, file.key, expires, name))
    return serve_file(unit.storage, served(file), name, if_none_match, part)


@router.get("/series", summary="DICOM series of a study")
def list_series(id: UUID, unit: Unit, user: StudiesReader) -> list[SeriesOut]:
    """The series that were sent, and which of them was chosen, and why."""
    study = find_study(StudyRepository(unit.session, user), id)
    rows = series_of(unit.session, study.id)
    note_access(unit, "series.list", study, {"series": len(rows)})
    return [
        SeriesOut.model_validate({**vars(series), "images": images}, extra="ignore")
        for series, images in rows
    ]


@router.get("/artifacts")
def list_artifacts(id: UUID, unit: Unit, user: StudiesReader) -> list[ArtifactOut]:
    """The files that the newest task made."""
    studies = StudyRepository(unit.session, user)
    study = find_study(studies, id)
    note_access(unit, "artifact.list", study)
    return [artifact_out(artifact) for artifact in _made(studies, study)]


@router.get("/artifacts/{role}", responses=part_responses("*/*"), response_class=StreamingResponse)
def get_artifact(
    id: UUID, role: str, unit: Unit, user: StudiesReader, part: PartDep, if_none_match: IfNoneMatch = None
) -> Response:
    """A mask, overlay or report file; its ETag is its sha256."""
    studies = StudyRepository(unit.session, user)
    study = find_study(studies, id)
    artifact = _artifact(studies, study, role)
    note_access(unit, "artifact.read", study, {"artifact": artifact.id, "role": artifact.role})
    return serve_file(unit.storage, artifact, artifact.filename, if_none_match, part)


def _made(studies: StudyRepository, study: Study) -> Sequence[Artifact]:
    task = studies.newest_task(study.id)
    return studies.artifacts(task.id) if task else []


def _artifact(studies: StudyRepository, study: Study, role: str) -> Artifact:
    """The newest task's artifact of that role. Raises NotFound that lists the roles there are."""
    made = _made(studies, study)
    for artifact in made:
        if artifact.role == role:
            return artifact
    roles = ", ".join(artifact.role for artifact in made) or "none yet"
    raise NotFound(f"study {study.id} has no artifact {role!r}; it has: {roles}")
