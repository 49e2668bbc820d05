"""How long a CT series takes to get in: `python -m benchmarks.ingest [--runs N] [--planes N]`.

A series of 512 planes (real ones of LIDC-IDRI-0001 under HOUNSFIELD_DATA, stacked on each other, else noise) as .tar.gz.
In one run, on the same files: unpacking alone, dcm2niix alone on the unpacked folder (without compression, and with its
own), and the whole ingest as the function does it: hashing, unpacking, choosing, the volume, de-identification of every
image, storing. The ratios are (ingest - unpacking) / dcm2niix, of medians: once with tar as the unpacking, once with our
own, which is several times as fast.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from io import BytesIO
from itertools import product
from pathlib import Path
from threading import current_thread
from typing import Any
from uuid import UUID

import dcm2niix
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from sqlalchemy import select

from benchmarks.samples import workplace
from functions.ingest import ct, handlers, received, service, volumes
from functions.ingest.packing import Packing
from shared.archives import ArchiveLimits, unpack
from shared.db.models import Study
from shared.imaging.dicom import convert
from shared.telemetry.logs import configure_logs
from tests.intake import Intake
from tests.unit.shared.imaging.dicom.builders import make_image, save

Times = dict[str, list[tuple[float, float]]]
"""Seconds by the clock and of CPU, of each run."""
UNPACKING, PEERS = ("tar xzf", "our unpacking"), ("dcm2niix -z n", "dcm2niix -z y")
POLL_SECONDS = 0.05
PHASES: tuple[tuple[Any, str], ...] = (
    (handlers, "take_in"),
    (handlers, "accept"),
    (service, "contents_of"),
    (received, "unpack"),
    (received, "sha256_of"),
    (service, "read_dicom"),
    (service, "decide"),
    (ct, "choose"),
    (ct, "built_plain"),
    (convert, "run_bounded"),
    (volumes, "build_nifti"),
    (service, "store_file"),
    (service, "store_series"),
    (Packing, "begin"),
    (Packing, "packed"),
)
"""Steps of an ingest: what is called, by the module that calls it."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--planes", type=int, default=512)
    parser.add_argument("--phases", action="store_true", help="also what each step of an ingest takes")
    arguments = parser.parse_args()
    configure_logs("ERROR", "console")
    with workplace() as (intake, folder):
        source = make_series(folder / "series", arguments.planes)
        archive = folder / "series.tar.gz"
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            tar.add(source, arcname="series")
        size = sum(path.stat().st_size for path in source.iterdir()) / 2**20
        print(f"{arguments.planes} planes, {size:.0f} MiB, packed {archive.stat().st_size / 2**20:.0f} MiB\n")
        steps: dict[str, Callable[[], None]] = {
            "tar xzf": lambda: _untarred(archive, folder / "unpacked"),
            "our unpacking": lambda: _unpacked(archive, folder / "unpacked"),
            "dcm2niix -z n": lambda: _stacked(source, folder / "made", "n"),
            "dcm2niix -z y": lambda: _stacked(source, folder / "made", "y"),
            "ingest": lambda: _ingested(intake, sent.pop()),
        }
        sent: list[UUID] = []
        seconds: Times = {name: [] for name in steps}
        for run in range(arguments.runs + 1):
            for name, step in steps.items():
                os.sync()  # what the step before left to be written is not this one's to wait for
                sent = [_received(intake, archive)] if name == "ingest" else []
                started, worked = time.perf_counter(), _cpu_seconds()
                step()
                if run:  # the first only warms up
                    seconds[name].append((time.perf_counter() - started, _cpu_seconds() - worked))
        if arguments.phases:
            phases(intake, archive)
    report(seconds)


def report(seconds: Times) -> None:
    """The table and the ratios."""
    medians = {}
    for name, times in seconds.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        medians[name] = (wall, cpu)
        print(f"{name:18} {wall:6.2f} s by the clock, {cpu:6.2f} s of CPU (medians of {len(times)})")
    for (at, what), unpacking, peer in product(enumerate(("clock", "CPU")), UNPACKING, PEERS):
        own, other = medians["ingest"][at] - medians[unpacking][at], medians[peer][at]
        print(f"{what}: (ingest - {unpacking}) / {peer}: {own:.2f} / {other:.2f} = {own / other:.2f}")


def phases(intake: Intake, archive: Path) -> None:
    """Print when each step of one ingest began and ended, thread by thread."""
    spans: list[tuple[float, float, str, str]] = []
    with ExitStack() as stack:
        for owner, name in PHASES:
            stack.enter_context(_timed(owner, name, spans))
        study_id = _received(intake, archive)
        started = time.perf_counter()
        _ingested(intake, study_id)
    for began, ended, thread, name in sorted(spans):
        print(f"{began - started:6.2f} s to {ended - started:6.2f} s  {thread:12} {name}")
    print()


@contextmanager
def _timed(owner: Any, name: str, spans: list[tuple[float, float, str, str]]) -> Iterator[None]:
    """Note every call of a function, where it is called from `owner`."""
    called = getattr(owner, name)

    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return called(*arguments, **named)
        finally:
            spans.append((began, time.perf_counter(), current_thread().name[:12], name.strip("_")))

    setattr(owner, name, timed)
    yield
    setattr(owner, name, called)


def _cpu_seconds() -> float:
    """Of this process and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def make_series(folder: Path, planes: int) -> Path:
    """A CT series of so many planes in `folder`."""
    folder.mkdir()
    originals = _originals()
    uid = generate_uid()
    for number in range(planes):
        image = originals[number % len(originals)]() if originals else _noise(number)
        image.SeriesInstanceUID, image.SOPInstanceUID = uid, generate_uid()
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.InstanceNumber = number + 1
        x, y, _ = image.ImagePositionPatient
        image.ImagePositionPatient = [x, y, 2.5 * number]
        save(image, folder / f"{number:04}.dcm")
    return folder


def _originals() -> list[Callable[[], Dataset]]:
    data = Path(os.environ.get("HOUNSFIELD_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    archive = data / "ct" / "lidc" / "LIDC-IDRI-0001_series.tar.gz"
    if not archive.is_file():
        return []
    folder = Path(tempfile.mkdtemp(prefix="hounsfield-bench-"))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    found = [path.read_bytes() for path in sorted(folder.rglob("*.dcm"))]
    shutil.rmtree(folder)
    return [partial(_image, content) for content in found]


def _image(content: bytes) -> Dataset:
    return dcmread(BytesIO(content))


def _noise(number: int) -> Dataset:
    row = np.random.default_rng(number).normal(0, 20, (512, 512)) + 40
    return make_image(Rows=512, Columns=512, PixelData=row.astype(np.int16).tobytes())


def _untarred(archive: Path, folder: Path) -> None:
    folder.mkdir()
    subprocess.run(["tar", "xzf", str(archive), "-C", str(folder)], check=True)
    shutil.rmtree(folder)


def _unpacked(archive: Path, folder: Path) -> None:
    folder.mkdir()
    unpack(archive, folder, ArchiveLimits())
    shutil.rmtree(folder)


def _stacked(source: Path, made: Path, compression: str) -> None:
    made.mkdir()
    command = [dcm2niix.bin, "-g", "i", "-b", "n", "-z", compression, "-o", str(made), str(source)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(made)


def _received(intake: Intake, archive: Path) -> UUID:
    """Sent, and about to be taken in."""
    return intake.send(archive, duplicate=True)


def _ingested(intake: Intake, study_id: UUID) -> None:
    """Asks seldom, and for little: whoever asks works in the same process."""
    status = "receiving"
    while status == "receiving":
        time.sleep(POLL_SECONDS)
        with intake.services.database.tenant(intake.tenant_id) as session:
            status = session.scalar(select(Study.status).where(Study.id == study_id)) or "gone"
    assert status == "ingested", intake.study(study_id).message


if __name__ == "__main__":
    main()
