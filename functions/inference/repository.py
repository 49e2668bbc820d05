"""The inference function's SQL."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, selectinload

from functions.inference.outcome import Outcome
from shared.db.models import Artifact, Finding, InferenceTask, StepResult, Study, StudyStatus, TaskState


class InferenceRepository:
    """Tasks, their steps and what they found.

    What changes both a study and what hangs on it takes the study first, as whoever deletes it does.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def waiting(self, id: UUID) -> Study | None:
        """The ingested study, without its files; None when it has a task that runs, will run or has succeeded."""
        standing = (TaskState.PENDING, TaskState.STARTED, TaskState.SUCCESS)
        tasks = select(InferenceTask).where(InferenceTask.study_id == id, InferenceTask.state.in_(standing))
        return self._session.scalar(
            select(Study).where(Study.id == id, Study.status == StudyStatus.INGESTED, ~tasks.exists())
        )

    def start(self, task_id: UUID) -> tuple[InferenceTask, Study] | None:
        """Mark a task as started; it and its study with files, or None when there is nothing to run.

        A task that failed is started again, since its dead letter was replayed, unless a newer one took its place.
        """
        task = self._session.get(InferenceTask, task_id)
        if task is None or task.state in (TaskState.SUCCESS, TaskState.CANCELLED) or self._has_newer(task):
            return None
        files = selectinload(Study.files)
        study = self._session.get(Study, task.study_id, options=[files], with_for_update={"key_share": True})
        if study is None:
            return None
        task.state, task.message, task.completed_at = TaskState.STARTED, None, None
        task.started_at = task.started_at or self._session.scalar(select(func.now()))
        study.status, study.message, study.completed_at = StudyStatus.PROCESSING, None, None
        self._session.flush()
        return task, study

    def _has_newer(self, task: InferenceTask) -> bool:
        newer = select(InferenceTask.id).where(
            InferenceTask.study_id == task.study_id, InferenceTask.id > task.id
        )
        return self._session.scalar(newer.limit(1)) is not None

    def progress(self, task: InferenceTask, step: str, percent: int) -> None:
        """Say which step has begun."""
        values = {"step": step, "progress": percent}
        self._session.execute(update(Study).where(Study.id == task.study_id).values(**values))
        self._session.execute(update(InferenceTask).where(InferenceTask.id == task.id).values(**values))

    def remembered(self, task_id: UUID, step: str, input_hash: str, model_version: str) -> StepResult | None:
        """What this very step gave before."""
        return self._session.scalar(
            select(StepResult).where(
                StepResult.task_id == task_id,
                StepResult.step == step,
                StepResult.input_hash == input_hash,
                StepResult.model_version == model_version,
            )
        )

    def mark_succeeded(self, task: InferenceTask, outcome: Outcome) -> None:
        """Write findings, artifacts and results; the study is complete."""
        self._end_study(task.study_id, StudyStatus.COMPLETED, None)
        owner = {"tenant_id": task.tenant_id, "task_id": task.id, "study_id": task.study_id}
        self._session.add_all(
            Finding(**owner, position=position, **asdict(found))
            for position, found in enumerate(outcome.findings)
        )
        self._session.add_all(
            Artifact(
                **owner,
                role=made.role,
                media_type=made.media_type,
                filename=made.filename,
                **made.ref.model_dump(include={"bucket", "key", "version", "size", "sha256"}),
            )
            for made in outcome.files
        )
        results = {"models": outcome.models, "results": outcome.results}
        self._end(task.id, TaskState.SUCCESS, message=None, **results)

    def mark_failed(self, task_id: UUID, study_id: UUID, reason: str) -> None:
        """The task is over without results; the study's files are kept, for another try."""
        self._end_study(study_id, StudyStatus.INGESTED, f"analysis failed: {reason}")
        self._end(task_id, TaskState.FAILURE, message=reason)

    def _end(self, task_id: UUID, state: TaskState, **values: Any) -> None:
        end = {"state": state, "progress": 100, "step": "finished", "completed_at": func.now()}
        self._session.execute(
            update(InferenceTask).where(InferenceTask.id == task_id).values(**end, **values)
        )

    def _end_study(self, study_id: UUID, status: StudyStatus, message: str | None) -> None:
        end = {
            "status": status,
            "progress": 100,
            "step": "finished",
            "message": message,
            "completed_at": func.now(),
        }
        self._session.execute(update(Study).where(Study.id == study_id).values(**end))
