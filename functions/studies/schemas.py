"""Wire types of the studies function."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, computed_field


class FileOut(BaseModel):
    """One file of a study: what it is and how that was told."""

    id: UUID
    filename: str
    role: str
    modality: str | None
    media_type: str | None
    size: int
    sha256: str | None
    details: dict[str, Any]


class FindingOut(BaseModel):
    """One measured or predicted quantity."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    display: str
    value: str | None
    number: float | None
    unit: str | None
    probability: float | None
    model: str
    model_version: str
    geometry: str | None


class ArtifactOut(BaseModel):
    """A file that can be fetched at `url`."""

    role: str
    media_type: str
    filename: str
    size: int
    sha256: str
    url: str


class TaskOut(BaseModel):
    """The inference task behind the results."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    pipeline: str
    state: str
    progress: int
    step: str | None
    message: str | None
    models: dict[str, Any]
    started_at: datetime | None
    completed_at: datetime | None


class Results(BaseModel):
    """What the newest finished task gave."""

    findings: list[FindingOut]
    artifacts: list[ArtifactOut]
    report_id: UUID | None
    steps: list[dict[str, Any]]
    modalities: dict[str, Any]
    warnings: list[str]


class StudySummary(BaseModel):
    """A study as lists show it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    kind: str | None
    patient_id: str
    scan_date: date | None
    status: str
    progress: int
    step: str | None
    message: str | None
    modalities: list[str]
    owner_id: UUID
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None


class StudyOut(StudySummary):
    """A study whole."""

    patient_name: str | None
    files: list[FileOut]
    task: TaskOut | None
    results: Results | None


class _OlderNames(StudySummary):
    """The field names that the older brain-tumour system documented, beside ours."""

    @computed_field
    def patientId(self) -> str:
        return self.patient_id

    @computed_field
    def scanDate(self) -> date | None:
        return self.scan_date

    @computed_field
    def pipelineStep(self) -> str | None:
        return self.step

    @computed_field
    def createdAt(self) -> datetime:
        return self.created_at

    @computed_field
    def userId(self) -> UUID:
        return self.owner_id


class ScanSummary(_OlderNames):
    """A brain MRI as lists show it."""


class ScanOut(_OlderNames, StudyOut):
    """A brain MRI whole."""

    @computed_field
    def patientName(self) -> str | None:
        return self.patient_name
