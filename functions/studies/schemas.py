"""Wire types of studies."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, computed_field


class FileOut(BaseModel):
    """One file of a study: what it is, how that was told, and where it can be fetched."""

    id: UUID
    filename: str
    """As it was sent."""
    role: str
    modality: str | None
    media_type: str | None
    size: int
    sha256: str | None
    details: dict[str, Any]
    url: str | None = Field(
        description="null for what still waits for ingest, and for kept originals, which only administrators may fetch"
    )


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
    kind: str | None = Field(description="null until ingest has seen what was sent")
    name: str | None = Field(description="what its owner calls it; kept encrypted")
    patient_id: str
    patient_id_source: str = Field(
        description="`given`, `generated`, or `dicom`: stands for the Patient ID of the images"
    )
    case_id: UUID | None
    scan_date: date | None
    status: str
    progress: int
    step: str | None
    message: str | None
    held: list[str] | None = Field(
        description="why a person has to look before the images are used; see POST /studies/{id}/release"
    )
    modalities: list[str]
    owner_id: UUID
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None


class StudyOut(StudySummary):
    """A study whole."""

    patient_name: str | None
    released_by: UUID | None
    files: list[FileOut]
    ingest: dict[str, Any] = Field(
        description="what ingest found and chose: sequences, series, warnings; by kind"
    )
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
