"""What a pipeline gives back."""

from dataclasses import dataclass, field
from typing import Any

from shared.storage.port import ObjectRef


@dataclass(frozen=True)
class FoundValue:
    """One finding. unit: UCUM. geometry: role of the artifact in which it can be seen."""

    name: str
    display: str
    model: str
    model_version: str
    value: str | None = None
    number: float | None = None
    unit: str | None = None
    probability: float | None = None
    geometry: str | None = None


@dataclass(frozen=True)
class MadeFile:
    """One artifact that lies in storage."""

    role: str
    media_type: str
    filename: str
    ref: ObjectRef


@dataclass
class Outcome:
    """Everything that a finished task writes."""

    findings: list[FoundValue] = field(default_factory=list)
    files: list[MadeFile] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
