"""One module per pipeline: plain Python that calls models step by step."""

from collections.abc import Callable
from dataclasses import dataclass

from functions.inference.outcome import Outcome
from functions.inference.pipelines import brain_mri
from functions.inference.steps import Steps
from shared.events.types import Pipeline


@dataclass(frozen=True)
class PipelineEntry:
    """A pipeline by name."""

    name: Pipeline
    run: Callable[[Steps], Outcome]


PIPELINES: dict[str, PipelineEntry] = {"brain-mri": PipelineEntry("brain-mri", brain_mri.run)}
