"""Putting a study together for its reader."""

from collections.abc import Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from functions.studies.files.service import artifact_out, file_out
from functions.studies.repository import StudyRepository
from functions.studies.schemas import FindingOut, Results, StudyOut, StudySummary, TaskOut
from shared.db.models import InferenceTask, Study, TaskState
from shared.errors import NotFound
from shared.runtime import UnitOfWork
from shared.security.audit import Detail
from shared.security.principal import Principal
from shared.security.sealing import name_ring

S = TypeVar("S", bound=StudySummary)
W = TypeVar("W", bound=StudyOut)
NOUNS = {"brain-mri": "scan", "slide": "slide"}
"""What a study is called by the routes that show one kind of them."""


def find_study(studies: StudyRepository, id: UUID, kind: str | None = None) -> Study:
    """The study, or NotFound also where the viewer may not see it."""
    study = studies.get(id, kind)
    if study is None:
        raise missing(id, kind)
    return study


def lock_study(studies: StudyRepository, id: UUID, kind: str | None = None) -> Study:
    """The same; nobody else changes it until the transaction ends."""
    for study in studies.lock([id], kind):
        return study
    raise missing(id, kind)


def missing(id: UUID, kind: str | None) -> NotFound:
    """The error of a study that is not there, or not for the viewer."""
    return NotFound(f"no {NOUNS[kind] if kind else 'study'} {id}")


def note_access(
    unit: UnitOfWork, action: str, study: Study, details: Mapping[str, Detail] | None = None
) -> None:
    """Record that the caller did something to a study."""
    unit.audit(action, subject=("study", study.id), patient_id=study.patient_id, details=details)


def note_list(unit: UnitOfWork, rows: Sequence[Study]) -> None:
    """Record which studies, of which patients, the caller was shown."""
    patients = sorted({study.patient_id for study in rows})
    unit.audit("study.list", details={"studies": [study.id for study in rows], "patients": patients})


def summary_of(unit: UnitOfWork, study: Study, form: type[S]) -> S:
    """The study as lists show it."""
    fields = {name: getattr(study, name) for name in form.model_fields if hasattr(study, name)}
    return form.model_validate({**fields, "name": name_of(unit, study), "modalities": modalities_of(study)})


def describe_study(
    unit: UnitOfWork, viewer: Principal, studies: StudyRepository, study: Study, form: type[W]
) -> W:
    """The study whole, in the form that the route answers with."""
    note_access(unit, "study.read", study)
    task = studies.newest_task(study.id)
    fields = {name: getattr(study, name) for name in form.model_fields if hasattr(study, name)}
    return form.model_validate(
        {
            **fields,
            "name": name_of(unit, study),
            "patient_name": _patient_name(unit, study),
            "files": [file_out(unit, viewer, file) for file in study.files],
            "modalities": modalities_of(study),
            "ingest": study.details,
            "task": TaskOut.model_validate(task) if task else None,
            "results": _results(studies, task) if task and task.state == TaskState.SUCCESS else None,
        },
        from_attributes=True,
    )


def modalities_of(study: Study) -> list[str]:
    """The sequences that ingest found."""
    found: list[str] = study.details.get("modalities", [])
    return found


def name_of(unit: UnitOfWork, study: Study) -> str | None:
    """What its owner calls it."""
    return unit.services.once(name_ring).open_if_possible(study.name_sealed, study.id)


def _patient_name(unit: UnitOfWork, study: Study) -> str | None:
    return unit.services.once(name_ring).open_if_possible(study.patient_name_sealed, study.id)


def _results(studies: StudyRepository, task: InferenceTask) -> Results:
    return Results(
        findings=[FindingOut.model_validate(finding) for finding in studies.findings(task.id)],
        artifacts=[artifact_out(artifact) for artifact in studies.artifacts(task.id)],
        report_id=studies.report_id(task.id),
        steps=task.results.get("steps", []),
        modalities=task.results.get("modalities", {}),
        warnings=task.results.get("warnings", []),
    )
