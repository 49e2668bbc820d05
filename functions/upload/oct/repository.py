"""SQL of waiting for a prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.db.models import Finding, InferenceTask, Report, Study


@dataclass(frozen=True)
class Standing:
    """Where a study and its newest task stand."""

    patient_id: str
    status: str
    step: str | None
    message: str | None
    task_id: UUID | None
    task_state: str | None
    task_message: str | None


def standing(session: Session, study_id: UUID) -> Standing | None:
    """None where there is no such study any more."""
    task = select(InferenceTask).where(InferenceTask.study_id == study_id)
    newest = task.order_by(InferenceTask.id.desc()).limit(1).subquery()
    row = session.execute(
        select(
            Study.patient_id,
            Study.status,
            Study.step,
            Study.message,
            newest.c.id,
            newest.c.state,
            newest.c.message,
        )
        .outerjoin(newest, newest.c.study_id == Study.id)
        .where(Study.id == study_id)
    ).one_or_none()
    return None if row is None else Standing(*row)


def findings(session: Session, task_id: UUID) -> Sequence[Finding]:
    """A task's findings in the pipeline's order."""
    return session.scalars(select(Finding).where(Finding.task_id == task_id).order_by(Finding.position)).all()


def report_id(session: Session, task_id: UUID) -> UUID | None:
    """The report of a task, once it is written."""
    return session.scalar(select(Report.id).where(Report.task_id == task_id))
