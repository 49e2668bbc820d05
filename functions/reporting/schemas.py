"""Wire types: a report's structured content, and what the routes answer.

Field names of `ReportContent` are stable; a change of meaning gets a new `format`. Units are UCUM.
"""

import math
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

DISCLAIMER = "Research demonstration — models trained on small public data; NOT FOR CLINICAL USE"


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity: such a number is one that was not measured."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite)]


class _Lenient(BaseModel):
    """Part of what a pipeline left behind: unknown fields are passed over, missing ones have defaults."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)


class Step(_Lenient):
    """One step of the pipeline and how it went."""

    name: str
    status: str = "done"
    reason: str | None = None
    seconds: Number = None
    model: str | None = None
    version: str | None = None


class Modality(_Lenient):
    """How one input volume was recognised; `confidence` from 0 to 1."""

    source: str | None = None
    confidence: Number = None


class Slice(_Lenient):
    """The slice that the slice models saw; `index` counts from 0 in storage order."""

    modality: str
    index: int


class Metric(_Lenient):
    """One measured quality of a model on `n` cases of `split`."""

    name: str
    value: Number = None
    split: str | None = None
    n: int | None = None


class ModelFacts(_Lenient):
    """What is known of a model's quality and purpose."""

    metrics: list[Metric] = []
    intended_use: str | None = None


class TaskResults(_Lenient):
    """`InferenceTask.results`, as far as a report uses it."""

    steps: list[Step] = []
    modalities: dict[str, Modality] = {}
    warnings: list[str] = []
    slice: Slice | None = None
    model_facts: dict[str, ModelFacts] = {}


class FindingLine(BaseModel):
    """One finding, unrounded, with the exact model version that gave it."""

    name: str
    display: str
    value: str | None = None
    number: Number = None
    unit: str | None = Field(None, description="UCUM")
    probability: Number = None
    model: str
    model_version: str
    geometry: str | None = Field(None, description="role of the artifact in which it can be seen")


class Section(BaseModel):
    """The findings of one step; `note` says why there are none."""

    title: str
    step: str | None = None
    status: str
    note: str | None = None
    findings: list[FindingLine] = []


class Narrative(BaseModel):
    """Sentences templated from the findings; their numbers are rounded as `ReportContent.rounding` says."""

    impression: list[str]
    findings: list[str]


class Picture(BaseModel):
    """An artifact of the task that the HTML and PDF forms show."""

    role: str
    media_type: str
    caption: str
    alt: str


class StudyFacts(BaseModel):
    """The study, without anything that names the patient: `patient_id` is a pseudonym."""

    id: UUID
    kind: str
    kind_display: str
    patient_id: str
    scan_date: date | None = None
    modalities: dict[str, Modality] = {}
    slice: Slice | None = None


class ModelLine(ModelFacts):
    """A model that took part."""

    name: str
    version: str


class ReportContent(BaseModel):
    """Everything a report says."""

    format: Literal["hounsfield.report/1"] = "hounsfield.report/1"
    report_id: UUID
    task_id: UUID
    created_at: datetime
    title: str
    pipeline: str
    study: StudyFacts
    narrative: Narrative
    sections: list[Section]
    pictures: list[Picture] = []
    steps: list[Step] = []
    models: list[ModelLine] = []
    warnings: list[str] = []
    rounding: str
    disclaimer: str = DISCLAIMER


class ReportSummary(BaseModel):
    """A report in a list."""

    id: UUID
    study_id: UUID
    task_id: UUID
    owner_id: UUID
    title: str
    impression: list[str]
    created_at: datetime


class ReportDetail(ReportSummary):
    """One report, whole."""

    content: ReportContent
