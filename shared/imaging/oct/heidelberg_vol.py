"""Heidelberg .vol (HEYEX "Raw Export"): a 2,048-byte header, the fundus image, then each B-scan behind its own header.

Layout: the HSF-OCT specification as told in eyepy and https://github.com/FabianRathke/octSegmentation.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from shared.imaging.nifti_header import ImplausibleImage, TruncatedImage
from shared.imaging.oct.intensity import displayed
from shared.imaging.oct.volume import MAX_BYTES, Laterality, OctVolume, check_size, validated_spacing

HEADER_BYTES = 2048
LEAST_SCAN_HEADER = 256
LEAST_SCAN_HEADER = 256
MAX_FUNDUS_EDGE = 8_192
MAX_SCAN_HEADER = 16 * 2**20
_FIELDS = struct.Struct("<12x3I3d2I28x4s8xi")  # up to the scan pattern
_NOT_PARALLEL = (2, 5)
"""Scan patterns of which neighbours are no fixed distance apart: circle, star."""
_EYES: dict[bytes, Laterality] = {b"OD": "R", b"OS": "L"}


@dataclass(frozen=True)
class _Header:
    width: int
    scans: int
    height: int
    lateral: float
    between: float | None
    axial: float
    fundus: tuple[int, int]
    laterality: Laterality | None


def read_vol(path: Path, max_bytes: int = MAX_BYTES) -> OctVolume:
    """The scan in the .vol file at `path`. Raises Invalid or TooLarge."""
    with path.open("rb") as file:
        header = _header(file.read(HEADER_BYTES))
        check_size(header.scans, header.height, header.width, 1, max_bytes)
        promised = HEADER_BYTES + header.fundus[0] * header.fundus[1]
        promised += header.scans * (LEAST_SCAN_HEADER + 4 * header.height * header.width)
        if promised > path.stat().st_size:
            raise TruncatedImage(
                f"The .vol header promises {promised:,} bytes; the file is too short to hold them."
            )
        fundus = np.frombuffer(_exactly(file, header.fundus[0] * header.fundus[1]), dtype=np.uint8)
        bscans = _bscans(file, header)
    spacing, note = validated_spacing(header.axial, header.lateral, header.between, header.scans)
    shown = fundus.reshape(header.fundus) if fundus.size else None
    return OctVolume(bscans, spacing, note, header.laterality, "Heidelberg", shown)


def _header(block: bytes) -> _Header:
    if len(block) < HEADER_BYTES:
        raise TruncatedImage(
            f"The .vol file ends inside its header, after {len(block):,} of {HEADER_BYTES:,} bytes."
        )
    width, scans, height, lateral, between, axial, across, down, eye, pattern = _FIELDS.unpack_from(block)
    if max(across, down) > MAX_FUNDUS_EDGE:
        raise ImplausibleImage(f"The .vol header says a fundus image of {across:,} × {down:,} pixels.")
    distance = None if pattern in _NOT_PARALLEL else between
    return _Header(width, scans, height, lateral, distance, axial, (down, across), _EYES.get(eye[:2]))


def _bscans(file: IO[bytes], header: _Header) -> NDArray[np.uint8]:
    shape = (header.height, header.width)
    bscans = np.empty((header.scans, *shape), dtype=np.uint8)
    for scan in bscans:
        # Each B-scan says how long its own header is; the file's header says so too, but not all writers agree.
        size = int.from_bytes(_exactly(file, 16)[12:], "little")
        if not LEAST_SCAN_HEADER <= size <= MAX_SCAN_HEADER:
            raise ImplausibleImage(
                f"A B-scan of the .vol file says a header of {size:,} bytes; that is implausible."
            )
        file.seek(size - 16, 1)
        values = np.frombuffer(_exactly(file, 4 * header.height * header.width), dtype="<f4").reshape(shape)
        if np.isnan(values).any():
            raise ImplausibleImage("A B-scan of the .vol file contains NaN; all values must be numbers.")
        scan[:] = displayed(values.astype(np.float32, copy=False))
    return bscans


def _exactly(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise TruncatedImage("The .vol file ends inside an image; send it again.")
    return data
