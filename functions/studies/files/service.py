"""Which files of a study somebody may fetch, where, and under which name."""

import re
from dataclasses import dataclass
from uuid import UUID

from functions.studies.schemas import ArtifactOut, FileOut
from shared.db.models import Artifact, FileRole, Study, StudyFile
from shared.errors import NotFound
from shared.runtime import UnitOfWork
from shared.security.policy import Action, Reach
from shared.security.principal import Principal
from shared.security.sealing import name_ring
from shared.storage.port import Bucket

UNKNOWN = "application/octet-stream"


@dataclass
class Served:
    """A stored file as `shared.http.files` serves it."""

    bucket: Bucket
    key: str
    size: int
    sha256: str
    media_type: str


def may_fetch(viewer: Principal, file: StudyFile) -> bool:
    """Whether somebody who may see the study may have this file.

    What was received may name the patient in its bytes, and was looked at by nobody. Originals may name them too: they
    were kept for the hospital, not for whoever sent them.
    """
    if file.role == FileRole.RECEIVED:
        return False
    return file.role != FileRole.ORIGINAL or viewer.reach(Action.STUDIES_READ) is Reach.TENANT


def find_file(viewer: Principal, study: Study, file_id: UUID) -> StudyFile:
    """The study's file. Raises NotFound also where the viewer may not fetch it."""
    for file in study.files:
        if file.id == file_id and may_fetch(viewer, file):
            return file
    raise NotFound(
        f"study {study.id} has no file {file_id} that can be fetched; GET /studies/{study.id} lists them"
    )


def served(file: StudyFile) -> Served:
    """The file to serve; one whose hash is not known is told from others by its id."""
    return Served(file.bucket, file.key, file.size, file.sha256 or file.id.hex, file.media_type or UNKNOWN)


def safe_name(study: Study, file: StudyFile) -> str:
    """What a browser saves the file as: nothing of what the sender called it."""
    number = [one.id for one in study.files].index(file.id) + 1
    modality = re.sub(r"[^a-z0-9]", "", (file.modality or "").lower())
    return f"study-{study.id}-{file.role}-{modality or number}{_extension(file.key)}"


def file_out(unit: UnitOfWork, viewer: Principal, file: StudyFile) -> FileOut:
    """A file with the URL that serves it to the viewer."""
    return FileOut(
        id=file.id,
        filename=unit.services.once(name_ring).filename_if_possible(file),
        role=file.role,
        modality=file.modality,
        media_type=file.media_type,
        size=file.size,
        sha256=file.sha256,
        details=file.details,
        url=url_of(viewer, file),
    )


def url_of(viewer: Principal, file: StudyFile) -> str | None:
    """Where the viewer can fetch the file."""
    return f"/api/studies/{file.study_id}/files/{file.id}" if may_fetch(viewer, file) else None


def artifact_out(artifact: Artifact) -> ArtifactOut:
    """An artifact with the URL that serves it."""
    return ArtifactOut(
        role=artifact.role,
        media_type=artifact.media_type,
        filename=artifact.filename,
        size=artifact.size,
        sha256=artifact.sha256,
        url=f"/api/studies/{artifact.study_id}/artifacts/{artifact.role}",
    )


def _extension(key: str) -> str:
    """Such as `.nii.gz`, of a key of ours; nothing where it has none or an odd one."""
    found = re.search(r"(\.[a-z0-9]{1,8}){1,2}$", key.rpartition("/")[2].lower())
    return found[0] if found else ""
