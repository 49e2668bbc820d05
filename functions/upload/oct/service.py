"""An image is sent as any other study; then its end is waited for, without a thread or a connection held meanwhile."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import anyio
from starlette.concurrency import run_in_threadpool

from functions.upload.forms.service import Form, receive_form
from functions.upload.oct import repository
from functions.upload.oct.repository import Standing
from functions.upload.oct.schemas import Pending, Prediction
from functions.upload.receiving import Incoming, Received
from shared.db.models import StudyStatus, TaskState
from shared.errors import Invalid, NotFound
from shared.intake import Patient
from shared.runtime import Services
from shared.runtime.unit import unit_of_work
from shared.security.audit import Actor
from shared.security.principal import Principal

FIRST_POLL, SLOWEST_POLL = 0.1, 1.0
"""Seconds between two looks at the database: each is half as long again as the one before."""
NO_TASK_SECONDS = 3.0
"""An ingested study that has no task by then gets none: nothing analyses its kind."""
_ENDED = (TaskState.SUCCESS, TaskState.FAILURE, TaskState.CANCELLED)


class NoPrediction(Invalid):
    """The image cannot be analysed, or its analysis failed."""

    slug, title = "no-prediction", "No prediction"


@dataclass(frozen=True)
class Caller:
    """Who waits, and how to know that they have gone."""

    user: Principal
    actor: Actor
    is_gone: Callable[[], Awaitable[bool]]


def take(services: Services, caller: Caller, image: Incoming, patient: Patient) -> Received:
    """Make a study of the image; one that is known already is the same study."""
    with unit_of_work(services, caller.user.tenant_id, caller.actor) as unit:
        return receive_form(unit, caller.user, Form([image], "oct", patient))


async def await_prediction(
    services: Services, caller: Caller, study_id: UUID, seconds: float
) -> Prediction | Pending:
    """The prediction, or where the study stands after `seconds`, or once it is plain that waiting is no use.

    Raises NoPrediction with the reason where there will be none, NotFound where the study was deleted meanwhile.
    """
    standing = await _wait(services, caller, study_id, seconds)
    if standing.status == StudyStatus.REJECTED:
        raise NoPrediction(standing.message or "the image cannot be used", study_id=str(study_id))
    if standing.task_state in (TaskState.FAILURE, TaskState.CANCELLED):
        reason = standing.task_message or f"the analysis ended as {standing.task_state.lower()}"
        raise NoPrediction(reason, study_id=str(study_id), task_id=str(standing.task_id))
    if standing.task_state == TaskState.SUCCESS and standing.task_id is not None:
        found = await run_in_threadpool(_read, services, caller, study_id, standing)
        if found is not None:
            return found
    return Pending(study_id=study_id, task_id=standing.task_id, status=standing.status, step=standing.step)


async def _wait(services: Services, caller: Caller, study_id: UUID, seconds: float) -> Standing:
    deadline = time.monotonic() + seconds
    idle_since: float | None = None
    pause = FIRST_POLL
    while True:
        standing = await run_in_threadpool(_look, services, caller.user.tenant_id, study_id)
        now = time.monotonic()
        idle = standing.status != StudyStatus.RECEIVING and standing.task_id is None
        idle_since = (idle_since or now) if idle else None
        hopeless = idle_since is not None and now - idle_since >= NO_TASK_SECONDS
        if _has_ended(standing) or hopeless or now >= deadline or await caller.is_gone():
            return standing
        await anyio.sleep(min(pause, deadline - now))
        pause = min(pause * 1.5, SLOWEST_POLL)


def _has_ended(standing: Standing) -> bool:
    """Nothing more will come without somebody's doing."""
    held = standing.status == StudyStatus.RECEIVING and standing.step == "held"
    return held or standing.status == StudyStatus.REJECTED or standing.task_state in _ENDED


def _look(services: Services, tenant_id: UUID, study_id: UUID) -> Standing:
    with services.database.tenant(tenant_id) as session:
        standing = repository.standing(session, study_id)
    if standing is None:
        raise NotFound(f"study {study_id} was deleted")
    return standing


def _read(services: Services, caller: Caller, study_id: UUID, standing: Standing) -> Prediction | None:
    """The result of a task that succeeded; None where it found nothing that is a class."""
    assert standing.task_id is not None
    with unit_of_work(services, caller.user.tenant_id, caller.actor) as unit:
        findings = repository.findings(unit.session, standing.task_id)
        classes = {f.name.partition("probability-")[2]: f.probability for f in findings}
        chosen = next((f for f in findings if f.value is not None and f.probability is not None), None)
        if chosen is None or chosen.value is None:
            return None
        unit.audit("study.read", subject=("study", study_id), patient_id=standing.patient_id)
        return Prediction(
            study_id=study_id,
            task_id=standing.task_id,
            report_id=repository.report_id(unit.session, standing.task_id),
            prediction=chosen.value,
            probabilities={name: p for name, p in classes.items() if name and p is not None},
            confidence=chosen.probability,
            model=chosen.model,
            model_version=chosen.model_version,
        )
