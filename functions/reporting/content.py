"""A report's content from what a task left behind. Sections follow the steps and their models."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from functions.reporting import wording
from functions.reporting.narrative import narrate
from functions.reporting.schemas import (
    FindingLine,
    ModelFacts,
    ModelLine,
    Picture,
    ReportContent,
    Section,
    Step,
    StudyFacts,
    TaskResults,
)
from shared.db.models import Artifact, Finding, InferenceTask, Study

KINDS = {"brain-mri": "Brain MRI", "ct": "CT", "oct": "Retinal OCT", "slide": "Whole-slide image"}
PICTURES = {
    "overlay-montage": "Segmented regions outlined on the scan, in the slices where they are largest.",
    "overlay": "Segmented regions outlined on the scan.",
    "slice": "The slice that the models judged; no regions were segmented.",
    "heatmap": "Heat map of the model's output over the image.",
}
"""Artifact roles that a report shows, best first, with their captions."""
PICTURE_TYPES = ("image/png", "image/jpeg")


@dataclass(frozen=True)
class Source:
    """What a report is made from."""

    task: InferenceTask
    study: Study
    findings: Sequence[Finding]
    artifacts: Sequence[Artifact]
    filenames: Sequence[str]
    """As the sender named the study's files. They may name the patient: only for taking them out of texts."""


def build_content(source: Source, report_id: UUID, created_at: datetime) -> ReportContent:
    """The whole content. Raises pydantic.ValidationError when the results lack their agreed form."""
    task, study = source.task, source.study
    results = TaskResults.model_validate(task.results)
    findings = [_line(finding) for finding in sorted(source.findings, key=lambda finding: finding.position)]
    pipeline_kind = study.kind or task.pipeline
    kind = KINDS.get(pipeline_kind, pipeline_kind)
    return ReportContent(
        report_id=report_id,
        task_id=task.id,
        created_at=created_at,
        title=f"{kind} report",
        pipeline=task.pipeline,
        study=StudyFacts(
            id=study.id,
            kind=pipeline_kind,
            kind_display=kind,
            patient_id=study.patient_id,
            scan_date=study.scan_date,
            modalities=results.modalities,
            slice=results.slice,
        ),
        narrative=narrate(task.pipeline, findings, results.steps),
        sections=_sections(findings, results.steps),
        pictures=_pictures(source.artifacts, kind),
        steps=results.steps,
        models=_models(task.models, findings, results.model_facts),
        warnings=_warnings(study.details, results.warnings, source.filenames),
        rounding=wording.ROUNDING,
    )


def shown_pictures(artifacts: Iterable[Artifact]) -> list[Artifact]:
    """The artifacts that a report shows, best first."""
    by_role = {artifact.role: artifact for artifact in artifacts if artifact.media_type in PICTURE_TYPES}
    return [by_role[role] for role in PICTURES if role in by_role]


def _line(finding: Finding) -> FindingLine:
    return FindingLine(
        name=finding.name,
        display=finding.display,
        value=finding.value,
        number=finding.number,
        unit=finding.unit,
        probability=finding.probability,
        model=finding.model,
        model_version=finding.model_version,
        geometry=finding.geometry,
    )


def _sections(findings: Sequence[FindingLine], steps: Sequence[Step]) -> list[Section]:
    """One section per step that ran a model or was skipped, then one per model that no step names."""
    sections: list[Section] = []
    rest = list(findings)
    for step in steps:
        own = [finding for finding in rest if finding.model == step.model]
        rest = [finding for finding in rest if finding.model != step.model]
        if own or step.status != "done":
            title = wording.step_title(step.name)
            sections.append(
                Section(title=title, step=step.name, status=step.status, note=_note(step), findings=own)
            )
    for model in dict.fromkeys(finding.model for finding in rest):
        own = [finding for finding in rest if finding.model == model]
        sections.append(Section(title=model, status="done", findings=own))
    return sections


def _note(step: Step) -> str | None:
    if step.status == "done":
        return None
    return f"{wording.capital(step.status)}: {step.reason}" if step.reason else wording.capital(step.status)


def _models(
    used: Mapping[str, Any], findings: Sequence[FindingLine], facts: Mapping[str, ModelFacts]
) -> list[ModelLine]:
    versions = {name: str(version) for name, version in used.items()}
    for finding in findings:
        versions.setdefault(finding.model, finding.model_version)
    return [
        ModelLine(name=name, version=version, **facts.get(name, ModelFacts()).model_dump())
        for name, version in versions.items()
    ]


def _pictures(artifacts: Sequence[Artifact], kind: str) -> list[Picture]:
    return [
        Picture(
            role=artifact.role,
            media_type=artifact.media_type,
            caption=PICTURES[artifact.role],
            alt=f"{kind}. {PICTURES[artifact.role]}",
        )
        for artifact in shown_pictures(artifacts)
    ]


def _warnings(details: Mapping[str, Any], found: Sequence[str], filenames: Sequence[str]) -> list[str]:
    """Warnings of ingest, then of the pipeline, each once, with the sender's file names taken out."""
    noted = details.get("warnings")
    texts = [*(noted if isinstance(noted, list) else []), *found]
    return list(dict.fromkeys(_without_names(text, filenames) for text in texts if isinstance(text, str)))


def _without_names(text: str, filenames: Sequence[str]) -> str:
    for name in sorted(filter(None, filenames), key=len, reverse=True):
        text = text.replace(name, "[file]")
    return text
