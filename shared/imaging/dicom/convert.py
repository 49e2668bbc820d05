"""Lets dcm2niix stack planes, decoders having made plain ones of those that it is not given as they are."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import dcm2niix
import numpy as np

import shared
from shared.imaging.dicom.errors import DamagedDicom
from shared.imaging.dicom.instance import EXPLICIT, IMPLICIT
from shared.imaging.dicom.processes import run_bounded
from shared.imaging.dicom.series import Slice
from shared.imaging.dicom.stacked import Stacked, read_stacked

DECODER_MEMORY = 1536 * 2**20
"""Address space of Python, NumPy and the decoders before they read anything, with room for one deflated file."""
STACKER_MEMORY = 512 * 2**20
SECONDS = 600
LEAST_SHARE = 24
"""Fewer planes than this are not worth a process of their own."""
_OPTIONS = (
    "-g",
    "i",
    "-b",
    "n",
    "-z",
    "n",
    "-m",
    "y",
    "-p",
    "n",
    "-x",
    "i",
    "-l",
    "o",
    "-w",
    "0",
    "-f",
    "volume",
)
"""Ignore the user's defaults; no sidecar, no compression; merge what we say belongs together; values by the rescale
tags alone (not by Philips' private ones); neither crop nor rotate; keep the stored type; fixed name."""


def is_plain(plane: Slice) -> bool:
    """Whether dcm2niix is given the file as it came: one uncompressed little-endian frame."""
    pixels = plane.instance.pixels
    return (
        pixels is not None and pixels.frames == 1 and plane.instance.transfer_syntax in (EXPLICIT, IMPLICIT)
    )


def name_of(number: int) -> str:
    """The file of plane `number`, from 1."""
    return f"{number:06}.dcm"


def link_planes(planes: Sequence[Slice], folder: Path) -> None:
    """The planes' own files, by number, in `folder`."""
    for number, plane in enumerate(planes, 1):
        try:
            os.link(plane.instance.path, folder / name_of(number))
        except OSError:  # on another disk, or another user's
            (folder / name_of(number)).symlink_to(plane.instance.path.absolute())


def write_planes(planes: Sequence[Slice], folder: Path) -> None:
    """The planes as plain files, decoded in processes of their own, in `folder`. Raises DamagedDicom."""
    workers = max(1, min(os.cpu_count() or 1, 4, len(planes) // LEAST_SHARE))
    shares = [share.tolist() for share in np.array_split(np.arange(len(planes)), workers)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(partial(_write_share, planes, folder), shares))


def stack(folder: Path, work: Path, raw_bytes: int) -> Stacked:
    """What dcm2niix made of the files in `folder`, in `work` until it makes something else there. raw_bytes: what the
    planes take when decoded.

    Raises DamagedDicom when it makes no single volume of them.
    """
    made = work / "stacked"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    command = [dcm2niix.bin, *_OPTIONS, "-o", str(made), str(folder)]
    memory, disk = STACKER_MEMORY + 4 * raw_bytes, 4 * raw_bytes
    run_bounded(command, folder=work, memory=memory, disk=disk, seconds=SECONDS)
    if not (made / "volume.nii").is_file():
        raise DamagedDicom("dcm2niix made no volume of these images.")
    return read_stacked(made / "volume.nii")


def _write_share(planes: Sequence[Slice], folder: Path, share: Sequence[int]) -> None:
    job = folder.parent / f"job-{share[0]}.json"
    listed = [(str(planes[at].instance.path.absolute()), planes[at].frame.number, at + 1) for at in share]
    job.write_text(json.dumps(listed))
    frame_bytes = max(plane.instance.pixels.frame_bytes for plane in planes if plane.instance.pixels)
    largest = max(plane.instance.size for plane in planes)
    run_bounded(
        [sys.executable, "-m", "shared.imaging.dicom.plain", str(job), str(folder)],
        folder=folder.parent,
        memory=DECODER_MEMORY + 8 * frame_bytes + 3 * largest,
        disk=2 * frame_bytes,
        seconds=SECONDS,
        path=str(Path(shared.__file__).parents[1]),
    )
