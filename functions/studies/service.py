"""Putting a study together for its reader."""

from collections.abc import Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from functions.studies.repository import StudyRepository
from functions.studies.schemas import ArtifactOut, FileOut, FindingOut, Results, StudyOut, TaskOut
from shared.db.models import Artifact, InferenceTask, Study, StudyFile, TaskState
from shared.errors import NotFound
from shared.runtime import UnitOfWork
from shared.security.audit import Detail
from shared.security.sealing import name_ring

S = TypeVar("S", bound=StudyOut)


def find_study(studies: StudyRepository, id: UUID, kind: str | None = None) -> Study:
    """The study, or NotFound also where the viewer may not see it."""
    study = studies.get(id, kind)
    if study is None:
        raise NotFound(f"no {'scan' if kind else 'study'} {id}")
    return study


def note_access(
    unit: UnitOfWork, action: str, study: Study, details: Mapping[str, Detail] | None = None
) -> None:
    """Record that the caller did something to a study."""
    unit.audit(action, subject=("study", study.id), patient_id=study.patient_id, details=details)


def note_list(unit: UnitOfWork, rows: Sequence[Study]) -> None:
    """Record which studies, of which patients, the caller was shown."""
    patients = sorted({study.patient_id for study in rows})
    unit.audit("study.list", details={"studies": [study.id for study in rows], "patients": patients})


def describe_study(unit: UnitOfWork, studies: StudyRepository, study: Study, form: type[S]) -> S:
    """The study whole, in the form that the route answers with."""
    note_access(unit, "study.read", study)
    task = studies.newest_task(study.id)
    fields = {name: getattr(study, name) for name in form.model_fields if hasattr(study, name)}
    return form.model_validate(
        {
            **fields,
            "patient_name": _name_of(unit, study),
            "files": [_file_out(unit, file) for file in study.files],
            "modalities": modalities_of(study),
            "task": TaskOut.model_validate(task) if task else None,
            "results": _results(studies, task) if task and task.state == TaskState.SUCCESS else None,
        },
        from_attributes=True,
    )


def modalities_of(study: Study) -> list[str]:
    """The sequences that ingest found."""
    found: list[str] = study.details.get("modalities", [])
    return found


def find_artifact(studies: StudyRepository, study: Study, role: str) -> Artifact:
    """The newest task's artifact of that role. Raises NotFound that lists the roles there are."""
    task = studies.newest_task(study.id)
    made = studies.artifacts(task.id) if task else []
    for artifact in made:
        if artifact.role == role:
            return artifact
    roles = ", ".join(artifact.role for artifact in made) or "none yet"
    raise NotFound(f"study {study.id} has no artifact {role!r}; it has: {roles}")


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


def _results(studies: StudyRepository, task: InferenceTask) -> Results:
    return Results(
        findings=[FindingOut.model_validate(finding) for finding in studies.findings(task.id)],
        artifacts=[artifact_out(artifact) for artifact in studies.artifacts(task.id)],
        report_id=studies.report_id(task.id),
        steps=task.results.get("steps", []),
        modalities=task.results.get("modalities", {}),
        warnings=task.results.get("warnings", []),
    )


def _file_out(unit: UnitOfWork, file: StudyFile) -> FileOut:
    return FileOut(
        id=file.id,
        filename=unit.services.once(name_ring).filename_if_possible(file),
        role=file.role,
        modality=file.modality,
        media_type=file.media_type,
        size=file.size,
        sha256=file.sha256,
        details=file.details,
    )


def _name_of(unit: UnitOfWork, study: Study) -> str | None:
    return unit.services.once(name_ring).open_if_possible(study.patient_name_sealed, study.id)
