"""Real samples, one by one or as folders that belong together, and what became of each."""

import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

from shared.db.models import Study
from tests.intake import Intake

FOLDERS = (
    "ct/lidc",
    "ct/head",
    "ct/totalseg",
    "dicom_odd",
    "brain3d",
    "oct",
    "oct_vendor",
    "wsi",
    "brain2d",
    "brain2d_followup",
    "histo_patches",
)
TOGETHER = (
    "brain3d/BraTS2021_00006",
    "brain3d/BraTS2021_01657",
    "brain3d/BraTS2021_01658",
    "brain3d/BraTS2021_01659",
    "brain3d/BraTS2021_01660",
    "brain3d/TCGA-FG-6692_native",
    "dicom_odd/rse_panimg/dicom_4d",
    "oct_vendor/heyex_xml",
    "wsi/dicom_boxes",
)
"""Folders whose files belong together."""
ALIKE = (
    "oct/train",
    "brain2d/train",
    "brain2d_followup",
    "histo_patches/train",
    "dicom_odd/rse_panimg/dicom_4d/",
)
"""Folders of files that differ in nothing but what they show: two of each are sent, and stand for the rest."""


@dataclass(frozen=True)
class Sample:
    """A file, or a folder that is sent as one archive. name: without what comes before HOUNSFIELD_DATA."""

    name: str
    path: Path


@dataclass(frozen=True)
class Became:
    """A line of the table."""

    sample: str
    kind: str
    outcome: str
    made: str
    reason: str
    seconds: float

    def line(self) -> str:
        """In Markdown."""
        return f"| {self.sample} | {self.kind} | {self.outcome} | {self.made} | {self.reason} |"


def samples(data: Path) -> list[Sample]:
    """Every sample, folders of files that belong together as one."""
    found = [Sample(f"{name}/ (packed)", data / name) for name in TOGETHER if (data / name).is_dir()]
    for folder in FOLDERS:
        files = sorted(path for path in (data / folder).rglob("*") if path.is_file())
        found += [Sample(str(path.relative_to(data)), path) for path in files if not _is_note(path)]
    return _without_alike(found)


def _is_note(path: Path) -> bool:
    """Lists and notes that lie beside the samples."""
    return path.name in ("SOURCES.md", "manifest.csv", "nodules.json") or path.name.endswith(
        "_annotations.xml"
    )


def _without_alike(found: list[Sample]) -> list[Sample]:
    counts: dict[str, int] = {}
    kept = []
    for sample in found:
        if any(sample.name.startswith(alike) for alike in ALIKE):
            folder = sample.name.rpartition("/")[0]
            counts[folder] = counts.get(folder, 0) + 1
            if counts[folder] > 2:
                continue
        kept.append(sample)
    return kept


def take_in(intake: Intake, sample: Sample, work: Path) -> Became:
    """Send one sample and say what became of it."""
    path = sample.path
    if path.is_dir():
        path = work / "sample.tar.gz"
        with tarfile.open(path, "w:gz", compresslevel=1) as tar:
            tar.add(sample.path, arcname=sample.path.name)
    started = time.monotonic()
    study = intake.settled(intake.send(path, duplicate=True), 300)
    return _became(sample, study, time.monotonic() - started)


def _became(sample: Sample, study: Study, seconds: float) -> Became:
    made = [_described(file.role, file.modality, file.details) for file in study.files]
    warnings = "; ".join(study.details.get("warnings", []))
    counts = {name: study.details.get(name, {}) for name in ("passed_over", "held_images", "left_out")}
    aside = [f"{n} × {what}" for found in counts.values() for what, n in found.items() if n]
    outcome = "held" if study.step == "held" else study.status
    reason = "; ".join(filter(None, (study.message, warnings, "; ".join(aside))))
    return Became(sample.name, study.kind or "", outcome, ", ".join(made), reason, seconds)


def _described(role: str, modality: str | None, details: dict[str, object]) -> str:
    shape = details.get("shape") or [details.get(name) for name in ("scans", "height", "width")]
    size = " × ".join(str(n) for n in shape if n) if isinstance(shape, list) else ""
    return " ".join(filter(None, (role, modality or "", size)))
