"""Writes reports and decides who reads them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

import structlog

from functions.reporting.content import build_content, shown_pictures
from functions.reporting.html import render_html
from functions.reporting.pdf import render_pdf
from functions.reporting.repository import ReportRepository
from functions.reporting.schemas import ReportContent
from shared.db.models import Artifact, Report, TaskState
from shared.errors import NotFound
from shared.events import ReportCreated
from shared.ids import uuid7
from shared.runtime import Reject, UnitOfWork
from shared.security.audit import Detail
from shared.security.policy import Action
from shared.security.principal import Principal
from shared.security.sealing import name_ring
from shared.storage.port import ObjectRef

log = structlog.get_logger(__name__)

Render = Callable[[ReportContent, Mapping[str, bytes]], bytes]


def _render_json(content: ReportContent, _pictures: Mapping[str, bytes]) -> bytes:
    return content.model_dump_json(indent=2).encode()


FORMS: dict[str, tuple[str, Render]] = {
    "json": ("application/json", _render_json),
    "html": ("text/html; charset=utf-8", render_html),
    "pdf": ("application/pdf", render_pdf),
}
"""Extension → media type, and what writes it. The artifact's role is `report-<extension>`."""


def create_report(unit: UnitOfWork, task_id: UUID) -> None:
    """Write a finished task's report, its files and its event, unless it has one. Raises Reject."""
    repository = ReportRepository(unit.session, unit.tenant_id)
    source = repository.source(task_id, unit.services.once(name_ring))
    if source is None:
        log.info("no report: the study is gone", task_id=str(task_id))
        return
    if source.task.state != TaskState.SUCCESS:
        raise Reject(f"task {task_id} is {source.task.state}; only a finished task has a report")
    content = build_content(source, uuid7(), datetime.now(UTC).replace(microsecond=0))
    # The row comes first: whoever loses the race for it must not replace the winner's files.
    if not repository.add(content, source.study.owner_id):
        return
    pictures = {artifact.role: _read(unit, artifact) for artifact in shown_pictures(source.artifacts)}
    for extension in FORMS:
        _store(unit, repository, content, pictures, extension)
    unit.emit(ReportCreated(study_id=content.study.id, report_id=content.report_id, task_id=task_id))
    log.info("report created", report_id=str(content.report_id), task_id=str(task_id))


def get_report(unit: UnitOfWork, user: Principal, id: UUID, form: str) -> Report:
    """A report that the user may see, and now reads in `form`. Raises NotFound."""
    report = ReportRepository(unit.session, unit.tenant_id).get(id)
    if report is None or not user.may(Action.REPORTS_READ, report.owner_id):
        raise NotFound(f"there is no report {id} among those that you may see")
    details: dict[str, Detail] = {"study": report.study_id, "form": form}
    unit.audit("report.read", subject=("report", id), patient_id=_patient_of(report), details=details)
    return report


def note_list(unit: UnitOfWork, rows: Sequence[Report]) -> None:
    """Record which reports, of which studies and patients, the caller was shown."""
    details: dict[str, Detail] = {
        "reports": [report.id for report in rows],
        "studies": sorted({str(report.study_id) for report in rows}),
        "patients": sorted({_patient_of(report) for report in rows}),
    }
    unit.audit("report.list", details=details)


def get_form(unit: UnitOfWork, user: Principal, id: UUID, extension: str) -> Artifact:
    """One stored form of a report that the user may see. Raises NotFound."""
    report = get_report(unit, user, id, extension)
    artifact = ReportRepository(unit.session, unit.tenant_id).artifact(report.task_id, f"report-{extension}")
    if artifact is None:
        raise NotFound(f"report {id} has no {extension} form")
    return artifact


def _patient_of(report: Report) -> str:
    """The patient's pseudonym."""
    patient_id: str = report.content["study"]["patient_id"]
    return patient_id


def reference(artifact: Artifact) -> ObjectRef:
    """Where an artifact's bytes are."""
    return ObjectRef.model_validate(artifact, from_attributes=True)


def _store(
    unit: UnitOfWork,
    repository: ReportRepository,
    content: ReportContent,
    pictures: Mapping[str, bytes],
    extension: str,
) -> None:
    """Write one form, then the row that names it. A second try after a crash writes over the same key."""
    media_type, render = FORMS[extension]
    key = f"{unit.tenant_id}/{content.study.id}/results/{content.task_id}/report.{extension}"
    data = render(content, pictures)
    ref = unit.storage.put("studies", key, data, media_type)
    repository.add_artifact(content, f"report-{extension}", media_type, ref, sha256(data).hexdigest())


def _read(unit: UnitOfWork, artifact: Artifact) -> bytes:
    ref = reference(artifact)
    return unit.storage.read(ref.bucket, ref.key)
