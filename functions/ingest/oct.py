"""OCT: B-scans of one eye or both, from vendors' files, DICOM and pictures, and the fundus picture that came along."""

import math
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from functions.ingest.faults import UnusableFiles, fault_of
from functions.ingest.kinds import PICTURES
from functions.ingest.made import Job, MadeFile, Source
from functions.ingest.received import is_dicom
from shared.db.models import FileRole
from shared.formats.types import Format
from shared.imaging.dicom.instance import Frame, Instance
from shared.imaging.jobs import run_job
from shared.imaging.oct.read import read_oct
from shared.imaging.oct.stored import suffix_of, write_bscans
from shared.imaging.oct.volume import MAX_BYTES, Laterality, OctVolume, validated_spacing

MOST_FILES = 64
SECONDS = 300
_EYES: dict[str, Laterality] = {"R": "R", "L": "L"}
_MEDIA_TYPES = {".png": "image/png", ".nii.gz": "application/gzip"}


def make_oct(job: Job, sources: list[Source], images: list[Instance]) -> list[MadeFile]:
    """The study's scans. Raises UnusableFiles."""
    job.progress("reading the scan", 5)
    scans, fundus = _of_dicom(job, images)
    index = [source for source in sources if source.found.format is Format.HEYEX_XML]
    files = [source for source in sources if not is_dicom(source)]
    if index:  # its pictures are read by it, not as scans of their own
        pictures = {_last(s.name): s.path for s in files if s.found.format in PICTURES}
        files = [source for source in files if source.found.format not in PICTURES]
    else:
        pictures = {}
    if len(files) + len(scans) > MOST_FILES:
        raise UnusableFiles(
            f"the study holds {len(files)} files of B-scans; send at most {MOST_FILES}, or the device's own file"
        )
    for source in files:
        with fault_of(source.label):
            scans += [(scan, source.name) for scan in read_oct(source.path, source.found.format, pictures)]
    if not scans:
        raise UnusableFiles("the study holds pictures of the fundus only; send the OCT scan itself")
    return _made(job, scans, fundus)


def _of_dicom(
    job: Job, images: list[Instance]
) -> tuple[list[tuple[OctVolume, str]], np.ndarray[Any, Any] | None]:
    """The scans among DICOM images, and the photograph of the fundus."""
    scans: list[tuple[OctVolume, str]] = []
    fundus = None
    for number, image in enumerate(images, 1):
        target = job.folder / f"frames-{number}.npy"
        order = {"path": str(image.path), "target": str(target)}
        with fault_of(f"DICOM image {number}"):
            run_job("oct", order, job.folder, seconds=SECONDS, disk=MAX_BYTES + 2**20)
            frames = np.load(target, mmap_mode="r", allow_pickle=False)
        if image.modality == "OPT" and frames.ndim == 3:
            scans.append((_scan(image, frames), f"scan-{number}"))
        elif fundus is None:
            fundus = frames[0]
    return scans, fundus


def _scan(image: Instance, frames: np.ndarray[Any, Any]) -> OctVolume:
    first = image.frames[0] if image.frames else Frame()
    axial, lateral = first.spacing or (None, None)
    spacing, note = validated_spacing(axial, lateral, _between(image), len(frames))
    return OctVolume(frames, spacing, note, _EYES.get(image.laterality), "DICOM")


def _between(image: Instance) -> float | None:
    """The distance between B-scans, if it is one: of their places, else as the header says."""
    places = [frame.position for frame in image.frames if frame.position is not None]
    if len(places) < 2 or len(places) < len(image.frames):
        return image.frames[0].between if image.frames else None
    gaps = [math.dist(a, b) for a, b in pairwise(places)]
    mean = sum(gaps) / len(gaps)
    return mean if mean > 0 and max(abs(gap - mean) for gap in gaps) <= 0.1 * mean else None


def _made(
    job: Job, scans: list[tuple[OctVolume, str]], fundus: np.ndarray[Any, Any] | None
) -> list[MadeFile]:
    made = []
    for number, (scan, name) in enumerate(scans, 1):
        suffix = suffix_of(scan)
        path = job.folder / f"bscans-{number}{suffix}"
        write_bscans(scan, path)
        key, media_type = f"bscans/{number}{suffix}", _MEDIA_TYPES[suffix]
        made.append(MadeFile(FileRole.BSCANS, key, path, media_type, name, _details(scan, number), "oct"))
        shown = scan.fundus if scan.fundus is not None else (fundus if number == 1 else None)
        if shown is not None:
            made.append(_fundus(job, shown, scan, number))
    return made


def _details(scan: OctVolume, number: int) -> dict[str, Any]:
    scans, height, width = scan.bscans.shape
    spacing = asdict(scan.spacing_mm) if scan.spacing_mm else None
    return {
        "scan": number,
        "scans": scans,
        "height": height,
        "width": width,
        "bits": 8 * scan.bscans.dtype.itemsize,
        "laterality": scan.laterality,
        "device": scan.device,
        "spacing_mm": spacing,
        "spacing_note": scan.spacing_note or None,
    }


def _fundus(job: Job, picture: np.ndarray[Any, Any], scan: OctVolume, number: int) -> MadeFile:
    path = job.folder / f"fundus-{number}.png"
    pixels = np.asarray(picture if picture.dtype == np.uint8 else picture.astype(np.uint16) >> 8, np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    details = {"scan": number, "laterality": scan.laterality, "height": pixels.shape[0]}
    details["width"] = pixels.shape[1]
    name = f"fundus-{number}.png"
    return MadeFile(FileRole.FUNDUS, f"fundus/{number}.png", path, "image/png", name, details)


def _last(name: str) -> str:
    return Path(name.replace("\\", "/")).name.lower()
