"""Events of the inference function."""

from functions.inference.pipelines import PIPELINES
from functions.inference.repository import InferenceRepository
from functions.inference.steps import Steps
from shared.db.models import InferenceTask
from shared.errors import HounsfieldError
from shared.events import InferenceCompleted, InferenceFailed, InferenceRequested, StudyIngested
from shared.ids import uuid7
from shared.runtime import Function, LongWork, UnitOfWork

function = Function("inference")


@function.on(StudyIngested)
def start_task(event: StudyIngested, unit: UnitOfWork) -> None:
    """Every ingested study gets the pipeline of its kind, where there is one; one task, however often it is told."""
    study = InferenceRepository(unit.session).waiting(event.study_id)
    if study is None or event.kind not in PIPELINES:
        return
    task = InferenceTask(
        id=uuid7(), tenant_id=unit.tenant_id, study_id=study.id, user_id=study.owner_id, pipeline=event.kind
    )
    unit.session.add(task)
    unit.emit(InferenceRequested(task_id=task.id, study_id=study.id, pipeline=PIPELINES[event.kind].name))


def fail_task(event: InferenceRequested, unit: UnitOfWork, error: str) -> None:
    """No more tries: whoever waits for the task learns why."""
    InferenceRepository(unit.session).mark_failed(event.task_id, event.study_id, error)
    unit.emit(InferenceFailed(task_id=event.task_id, study_id=event.study_id, reason=error))


@function.on_long(InferenceRequested, on_dead=fail_task)
def run_task(event: InferenceRequested, work: LongWork) -> None:
    """Run the pipeline from where it stopped, and write its results once."""
    with work.unit() as unit:
        loaded = InferenceRepository(unit.session).start(event.task_id)
    if loaded is None:
        return  # the study was deleted, or the task ended, meanwhile
    task, study = loaded
    try:
        outcome = PIPELINES[event.pipeline].run(Steps(work, task, study))
    except HounsfieldError as error:
        if error.status >= 500:
            raise  # not the study's fault: try again
        with work.final_unit() as unit:
            fail_task(event, unit, error.detail)
        return
    with work.final_unit() as unit:
        InferenceRepository(unit.session).mark_succeeded(task, outcome)
        unit.emit(InferenceCompleted(task_id=task.id, study_id=study.id))
