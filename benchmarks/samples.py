"""What becomes of every sample: `python -m benchmarks.samples [--only PART] [--write docs/samples.md]`.

Each file of HOUNSFIELD_DATA, and each folder of DICOM files or of sequences packed as .tar.gz, goes through the real
ingest: an embedded PostgreSQL, a folder store, the bus. Prints a table in Markdown; --write writes it to a file.
"""

import argparse
import os
import resource
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.config import Settings
from shared.db.embedded import EmbeddedPostgres
from shared.db.migrations import upgrade
from shared.db.models import Study
from shared.db.session import Database
from shared.runtime.services import Services
from shared.storage.folder import FolderStorage
from shared.storage.signing import UrlSigner
from shared.telemetry.logs import configure_logs
from tests.intake import Intake, ingesting

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


@contextmanager
def workplace() -> Iterator[tuple[Intake, Path]]:
    """A database, a store and a worker of their own."""
    with tempfile.TemporaryDirectory(prefix="hounsfield-samples-") as name:
        folder = Path(name)
        server = EmbeddedPostgres(folder / "postgres")
        try:
            upgrade(server.url)
            settings = Settings(data_dir=folder / "data", retry_base_seconds=0.1, max_attempts=2)
            storage = FolderStorage(folder / "objects", UrlSigner(b"secret"), "http://127.0.0.1")
            services = Services(settings, Database(server.url), storage)
            with ingesting(services):
                yield Intake(services), folder
            services.close()
        finally:
            server.stop()


def table(lines: list[Became]) -> str:
    """The whole page."""
    counts: dict[str, int] = {}
    for line in lines:
        counts[line.outcome] = counts.get(line.outcome, 0) + 1
    told = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items()))
    head = [
        "# What becomes of the samples",
        "",
        "Written by `python -m benchmarks.samples --write docs/samples.md`: every sample under HOUNSFIELD_DATA, each sent",
        "by itself without saying what it is (folders of files that belong together as one .tar.gz), and what ingest",
        "made of it. Of folders of files that are all alike, two of each stand for the rest.",
        "",
        f"{len(lines)} samples: {told}.",
        "",
        "| sample | kind | outcome | what was made | why, and what to know |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(line.line() for line in lines)]) + "\n"


def main() -> None:
    """Send them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only samples whose path contains this")
    parser.add_argument("--write", type=Path, help="file for the table")
    arguments = parser.parse_args()
    configure_logs("ERROR", "console")
    data = Path(os.environ.get("HOUNSFIELD_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    lines = []
    with workplace() as (intake, folder):
        for sample in samples(data):
            if arguments.only not in sample.name:
                continue
            lines.append(take_in(intake, sample, folder))
            print(f"{lines[-1].seconds:6.2f} s  {lines[-1].line()}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"\n{len(lines)} samples, peak of this process {peak} MiB")
    if arguments.write:
        arguments.write.write_text(table(lines))


if __name__ == "__main__":
    main()
