"""Running a pipeline's steps so that each is done once, however often the task is delivered.

A step's result is stored under (task, step, hash of its input, model version) before the next step begins. A task
that is delivered again walks the same code and finds the finished steps' results instead of computing them.
"""

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

import structlog

from functions.inference.facts import model_facts
from functions.inference.models import model_client
from functions.inference.outcome import Outcome
from functions.inference.repository import InferenceRepository
from shared.db.models import InferenceTask, StepResult, Study
from shared.events import InferenceProgressed
from shared.imaging.nifti import Limits, read_nifti
from shared.imaging.volume import Volume
from shared.oip.client import OipClient
from shared.runtime import LongWork, UnitOfWork
from shared.storage.port import ObjectRef, Storage
from shared.storage.temporary import as_file
from shared.telemetry.metrics import STEP_SECONDS

log = structlog.get_logger(__name__)

Result = dict[str, Any]
KEPT_SCANS = 3
NO_MODEL = "hounsfield"
"""Stands where a step is computed here, without a model."""
REFUSED = "refused"
"""Names, in a step's result, why its model would not take the input. The step then counts as left out."""


class Steps:
    """What a pipeline works with: its study, storage, models, and a memory of finished steps."""

    def __init__(self, work: LongWork, task: InferenceTask, study: Study) -> None:
        self._work = work
        self.task = task
        self.study = study
        self.storage: Storage = work.services.storage
        self.settings = work.services.settings
        self.client: OipClient = work.services.once(model_client)
        self.outcome = Outcome(results={"steps": [], "warnings": []})
        self._scans: dict[str, Volume] = {}

    @property
    def prefix(self) -> str:
        """Key prefix, in the bucket `studies`, of what this task makes."""
        return f"{self.task.tenant_id}/{self.study.id}/results/{self.task.id}/"

    def run(
        self,
        name: str,
        percent: int,
        inputs: Result,
        compute: Callable[[], Result],
        *,
        model: str = NO_MODEL,
    ) -> Result:
        """The step's result, remembered or computed.

        name: unique in the pipeline. percent: progress when it begins. inputs: everything the result depends on.
        compute: returns a JSON object; files it makes are in storage and named in it. model: the one it calls.
        A result `{REFUSED: reason}` is remembered like any other; the pipeline goes on without the step.
        """
        version = "1" if model == NO_MODEL else self.version_of(model)
        input_hash = _hash(inputs)
        with self._work.unit() as unit:
            known = InferenceRepository(unit.session).remembered(self.task.id, name, input_hash, version)
            if known is None:
                self._announce(unit, name, percent)
        if known is None:
            known = self._compute(name, input_hash, model, version, compute)
        if REFUSED in known.result:
            self.skip(name, known.result[REFUSED])
        else:
            self._note(name, "done", seconds=round(known.seconds, 3), model=model, version=version)
        return known.result

    def skip(self, name: str, reason: str) -> None:
        """Say in the result that a step was left out, and why."""
        self._note(name, "skipped", reason=reason)

    def warn(self, text: str) -> None:
        """Say something in the result that a reader must know."""
        self.outcome.results["warnings"].append(text)

    def version_of(self, model: str) -> str:
        """The version of a model that this task uses: the one that is served when it is first asked for."""
        if model not in self.outcome.models:
            self.outcome.models[model] = (self.client.metadata(model).versions or ["1"])[-1]
            facts = self.outcome.results.setdefault("model_facts", {})
            facts[model] = model_facts(self.settings, model)
        return self.outcome.models[model]

    def read(self, ref: ObjectRef, *, allow_constant: bool = False) -> Volume:
        """A volume from storage; the last KEPT_SCANS are kept, since several steps look at the same scan.

        allow_constant: a mask may be empty, a scan may not.
        """
        if ref.uri not in self._scans:
            limits = Limits(max_bytes=self.settings.max_volume_bytes, allow_constant=allow_constant)
            with as_file(self.storage, ref.bucket, ref.key) as path:
                self._scans[ref.uri] = read_nifti(path, limits)
            for oldest in list(self._scans)[:-KEPT_SCANS]:
                del self._scans[oldest]
        return self._scans[ref.uri]

    def _announce(self, unit: UnitOfWork, name: str, percent: int) -> None:
        self._work.pause_point()
        InferenceRepository(unit.session).progress(self.task, name, percent)
        unit.emit(
            InferenceProgressed(task_id=self.task.id, study_id=self.study.id, step=name, progress=percent)
        )

    def _compute(
        self, name: str, input_hash: str, model: str, version: str, compute: Callable[[], Result]
    ) -> StepResult:
        started = time.monotonic()
        result = compute()
        seconds = time.monotonic() - started
        step = StepResult(
            tenant_id=self.task.tenant_id,
            task_id=self.task.id,
            step=name,
            input_hash=input_hash,
            model=model,
            model_version=version,
            result=result,
            seconds=seconds,
        )
        with self._work.unit() as unit:
            unit.session.add(step)
        STEP_SECONDS.labels(self.task.pipeline, name).observe(seconds)
        log.info("step done", task_id=str(self.task.id), step=name, seconds=round(seconds, 3))
        return step

    def _note(self, name: str, status: str, **more: object) -> None:
        self.outcome.results["steps"].append({"name": name, "status": status, **more})


def _hash(inputs: Result) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
