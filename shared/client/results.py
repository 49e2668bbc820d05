"""What the server answers, as values. Fields that this version does not know stay in `raw`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class StudyFile:
    """One file of a study. `sha256` is None until the server has read it."""

    id: str
    size: int
    sha256: str | None
    role: str | None
    modality: str | None
    filename: str | None = field(repr=False)

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Self:
        """From the server's JSON."""
        return cls(
            id=str(answer["id"]),
            size=int(answer["size"]),
            sha256=answer.get("sha256"),
            role=answer.get("role"),
            modality=answer.get("modality"),
            filename=answer.get("filename"),
        )


@dataclass(frozen=True)
class Task:
    """The analysis of a study: `state` is PENDING, STARTED, SUCCESS, FAILURE or CANCELLED."""

    id: str
    state: str
    message: str | None

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Self:
        """From the server's JSON."""
        return cls(str(answer.get("id", "")), str(answer["state"]), answer.get("message"))


@dataclass(frozen=True)
class Finding:
    """One measured or predicted quantity: a `value` in words, or a `number` with its `unit`."""

    name: str
    display: str
    value: str | None
    number: float | None
    unit: str | None
    probability: float | None
    model: str
    model_version: str

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Self:
        """From the server's JSON."""
        return cls(
            name=str(answer.get("name", answer["display"])),
            display=str(answer["display"]),
            value=answer.get("value"),
            number=answer.get("number"),
            unit=answer.get("unit"),
            probability=answer.get("probability"),
            model=str(answer["model"]),
            model_version=str(answer["model_version"]),
        )


@dataclass(frozen=True)
class Artifact:
    """A file that the analysis made; `Client.download(artifact.url, …)` fetches it."""

    role: str
    media_type: str
    size: int
    sha256: str
    url: str

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Self:
        """From the server's JSON."""
        return cls(
            role=str(answer["role"]),
            media_type=str(answer["media_type"]),
            size=int(answer["size"]),
            sha256=str(answer["sha256"]),
            url=str(answer["url"]),
        )


@dataclass(frozen=True)
class Results:
    """What the newest finished analysis gave; `skipped` says which steps were left out, and why."""

    findings: tuple[Finding, ...]
    artifacts: tuple[Artifact, ...]
    report_id: str | None
    skipped: Mapping[str, str]
    warnings: tuple[str, ...]

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Self:
        """From the server's JSON."""
        steps = answer.get("steps") or []
        return cls(
            findings=tuple(map(Finding.read, answer.get("findings") or [])),
            artifacts=tuple(map(Artifact.read, answer.get("artifacts") or [])),
            report_id=answer.get("report_id"),
            skipped={step["name"]: step["reason"] for step in steps if step["status"] == "skipped"},
            warnings=tuple(answer.get("warnings") or []),
        )


@dataclass(frozen=True)
class Study:
    """A study as it stands. `kind` is None until the server found out; `held` says why a person has to look first,
    and is empty once one has."""

    id: str
    kind: str | None
    status: str
    progress: int
    """Per cent."""
    step: str | None
    message: str | None
    held: tuple[str, ...]
    known: bool
    """These very files were sent before, and this is their study."""
    patient_id: str | None = field(repr=False)
    files: tuple[StudyFile, ...]
    task: Task | None
    results: Results | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)
    """The server's whole answer."""

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Self:
        """From the server's JSON: of a study, of a list of studies, or of what was sent."""
        return cls(
            id=str(answer["id"]),
            kind=answer.get("kind"),
            status=str(answer["status"]),
            progress=int(answer.get("progress") or 0),
            step=answer.get("step"),
            message=answer.get("message"),
            held=() if answer.get("released_by") else tuple(answer.get("held") or []),
            known=bool(answer.get("known")),
            patient_id=answer.get("patient_id"),
            files=tuple(map(StudyFile.read, answer.get("files") or [])),
            task=Task.read(answer["task"]) if answer.get("task") else None,
            results=Results.read(answer["results"]) if answer.get("results") else None,
            raw=answer,
        )

    @property
    def failed(self) -> bool:
        """Whether it was rejected, or its analysis failed or was cancelled."""
        state = self.task.state if self.task else None
        return self.status == "rejected" or state in ("FAILURE", "CANCELLED")

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself: failed, held, or completed with its report written."""
        reported = self.results is not None and self.results.report_id is not None
        return self.failed or bool(self.held) or (self.status == "completed" and reported)


@dataclass(frozen=True)
class Upload:
    """An upload as it stands: `received` has the size of every part, by number, that the store confirmed."""

    id: str
    status: str
    size: int
    part_bytes: int
    received: Mapping[int, int]
    study_id: str | None

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Self:
        """From the server's JSON."""
        received = answer.get("received") or []
        return cls(
            id=str(answer["id"]),
            status=str(answer["status"]),
            size=int(answer["size"]),
            part_bytes=int(answer["part_bytes"]),
            received={int(part["number"]): int(part["size"]) for part in received},
            study_id=answer.get("study_id"),
        )


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list; the next one begins at `next_cursor`, which is None on the last."""

    items: tuple[T, ...]
    next_cursor: str | None
