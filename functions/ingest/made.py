"""What ingest works with, and what it makes of a study."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

from shared.config import Settings
from shared.db.models import FileRole, StudyFile
from shared.formats.types import Identified
from shared.imaging.dicom.deid_job import Packed
from shared.imaging.dicom.instance import Instance

Progress = Callable[[str, int], None]
"""Says which step has begun, and how far the study is, in percent of all that is done with it."""


@dataclass(frozen=True)
class Source:
    """One file that was sent, or that was in an archive.

    label: what it is called in messages, `file 3` or `file 1, member 17`. name: as sent, or its path in the archive;
    it may name a patient. file: the row that it came with. packed: whether it was in an archive.
    """

    path: Path
    found: Identified
    label: str
    name: str
    file: StudyFile
    packed: bool


@dataclass(frozen=True)
class Job:
    """One study's work: where to do it, under which rules, and whom to tell."""

    tenant_id: UUID
    study_id: UUID
    folder: Path
    settings: Settings
    released: bool
    """Whether a person has looked at its images, so that none of them is held."""
    progress: Progress

    def work(self, name: str) -> Path:
        """A new folder for temporary files."""
        path = self.folder / name
        path.mkdir()
        return path


@dataclass(frozen=True)
class MadeFile:
    """A file that the study will have. key: the last parts of its key. filename: what it is shown as."""

    role: FileRole
    key: str
    path: Path
    media_type: str
    filename: str
    details: dict[str, Any]
    modality: str | None = None


@dataclass
class Notes:
    """What is said of the study beside its files: counts, codes and sentences of ours; it is shown to its readers."""

    warnings: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    """Files that are none of the study's images, by what they are."""
    held: Counter[str] = field(default_factory=Counter)
    """Images that were left out because a person would have to look at them, by why."""
    left_out: Counter[str] = field(default_factory=Counter)
    """DICOM objects that are not kept, by why."""
    series: list[dict[str, Any]] = field(default_factory=list)
    """Every DICOM series: its number and size, whether it was chosen, and why or why not."""

    def as_details(self) -> dict[str, Any]:
        """For `studies.details`: what there is to say."""
        said = {
            "warnings": self.warnings,
            "passed_over": dict(self.passed_over),
            "held_images": dict(self.held),
            "left_out": dict(self.left_out),
            "series": self.series,
        }
        return {name: value for name, value in said.items() if value}


@dataclass(frozen=True)
class PackedImage:
    """A DICOM image and where it lies in its series' tar."""

    instance: Instance
    packed: Packed


@dataclass(frozen=True)
class PackedSeries:
    """A DICOM series as one tar."""

    tar: Path
    images: tuple[PackedImage, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Patient:
    """Who the DICOM images say that the patient is. name: in the order in which it is spoken; sealed where it is kept."""

    pseudonym: str
    name: str
    scan_date: date | None
