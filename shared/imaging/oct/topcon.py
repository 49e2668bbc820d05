"""Topcon .fda and .fds: a list of named chunks, of which the B-scans, scale, eye and fundus are read.

Layout: the uocte wiki's "Topcon File Format", as told in OCT-Converter (MIT). Patients' chunks are never read.
"""

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import Invalid, UnsupportedImage
from shared.imaging.nifti_header import ImplausibleImage, TruncatedImage
from shared.imaging.oct.volume import MAX_BYTES, Laterality, OctVolume, check_size, validated_spacing
from shared.imaging.raster import DECODER_ERRORS

_HEADER_BYTES = 15
_MAX_CHUNKS = 1_000
_VOLUME = struct.Struct("<B4IBI")  # scan mode, width, height, bits, scans, format, size
_JPEG_VOLUME = struct.Struct("<B6I")  # scan mode, ?, ?, width, height, scans, ?
_FUNDUS = struct.Struct("<4I")  # width, height, bits, images
_SCALE = {b"@PARAM_SCAN_04": 12, b"@PARAM_SCAN_02": 21}
"""Where x mm, y mm and z µm stand in each kind of scale chunk."""
_EYES: dict[int, Laterality] = {0: "R", 1: "L"}
_PARALLEL_MODE = 2
"""A 3D scan; 3 is radial, 4 a cross."""
_LARGEST_FUNDUS = 8_192 * 8_192
Chunks = dict[bytes, tuple[int, int]]


@dataclass(frozen=True)
class _File:
    """A Topcon file with the places of its chunks."""

    data: io.BufferedReader
    chunks: Chunks

    def chunk(self, name: bytes, count: int, skip: int = 0) -> bytes:
        """Up to `count` bytes of a chunk; never beyond its end."""
        place, size = self.chunks[name]
        self.data.seek(place + skip)
        return self.data.read(max(0, min(count, size - skip)))


def read_topcon(path: Path, max_bytes: int = MAX_BYTES) -> OctVolume:
    """The scan in the .fda or .fds file at `path`. Raises UnsupportedImage, Invalid or TooLarge."""
    with path.open("rb") as data:
        file = _File(data, _chunks(data, path.stat().st_size))
        mode, bscans = _bscans(file, max_bytes)
        laterality = _eye(file)
        axial, lateral, between = _scale(file, bscans.shape[2], bscans.shape[0])
        fundus = _fundus(file)
    if mode != _PARALLEL_MODE:
        between = None
    spacing, note = validated_spacing(axial, lateral, between, bscans.shape[0])
    return OctVolume(bscans, spacing, note, laterality, "Topcon", fundus)


def _chunks(data: io.BufferedReader, size: int) -> Chunks:
    start = data.read(_HEADER_BYTES)
    if start[:4] != b"FOCT" or len(start) < _HEADER_BYTES:
        raise UnsupportedImage("The file is no Topcon .fda or .fds file (it does not begin with FOCT).")
    chunks: Chunks = {}
    at = _HEADER_BYTES
    for _ in range(_MAX_CHUNKS):
        data.seek(at)
        name_size = int.from_bytes(data.read(1), "little")
        if name_size == 0:
            return chunks
        head = data.read(name_size + 4)
        place = at + 1 + name_size + 4
        length = int.from_bytes(head[name_size:], "little")
        if len(head) < name_size + 4 or place + length > size:
            raise TruncatedImage(
                "The Topcon file ends inside a chunk, or a chunk's length is wrong; send it again."
            )
        chunks.setdefault(head[:name_size], (place, length))
        at = place + length
    raise ImplausibleImage(f"The Topcon file has over {_MAX_CHUNKS:,} chunks; no device writes as many.")


def _bscans(file: _File, max_bytes: int) -> tuple[int, NDArray[np.generic]]:
    """The scan mode, and (scans, height, width)."""
    if b"@IMG_JPEG" in file.chunks:
        return _compressed(file, max_bytes)
    for name in (b"@IMG_SCAN_03", b"@IMG_MOT_COMP_03"):
        if name in file.chunks:
            return _plain(file, name, max_bytes)
    raise UnsupportedImage(
        "The Topcon file holds no B-scans of a kind that is read (IMG_JPEG, IMG_SCAN_03, IMG_MOT_COMP_03); "
        "export it as DICOM."
    )


def _plain(file: _File, name: bytes, max_bytes: int) -> tuple[int, NDArray[np.generic]]:
    head = file.chunk(name, _VOLUME.size)
    if len(head) < _VOLUME.size:
        raise TruncatedImage("The Topcon file's B-scans have no complete header.")
    mode, width, height, bits, scans, _, _ = _VOLUME.unpack(head)
    if bits != 16:
        raise UnsupportedImage(f"The Topcon B-scans are of {bits} bits; 16 are read.")
    check_size(scans, height, width, 2, max_bytes)
    size = scans * height * width * 2
    if file.chunks[name][1] - _VOLUME.size < size:
        raise TruncatedImage(f"The Topcon header promises {size:,} bytes of B-scans; its chunk is too short.")
    data = np.frombuffer(file.chunk(name, size, _VOLUME.size), dtype="<u2")
    return mode, data.astype(np.uint16, copy=False).reshape(scans, height, width)


def _compressed(file: _File, max_bytes: int) -> tuple[int, NDArray[np.generic]]:
    """B-scans as JPEG 2000, each behind its length."""
    name = b"@IMG_JPEG"
    head = file.chunk(name, _JPEG_VOLUME.size)
    if len(head) < _JPEG_VOLUME.size:
        raise TruncatedImage("The Topcon file's B-scans have no complete header.")
    mode, _, _, width, height, scans, _ = _JPEG_VOLUME.unpack(head)
    check_size(scans, height, width, 2, max_bytes)
    bscans: NDArray[np.generic] | None = None
    at = _JPEG_VOLUME.size
    for number in range(scans):
        length = int.from_bytes(file.chunk(name, 4, at), "little")
        stream = file.chunk(name, length, at + 4)
        if not stream or len(stream) < length:
            raise TruncatedImage(
                f"The Topcon file ends after {number:,} of {scans:,} B-scans; send it again."
            )
        scan = _picture(stream, ("JPEG2000", "JPEG"), (width, height), "B-scan")
        if scan.ndim != 2 or scan.dtype not in (np.uint8, np.uint16):
            raise ImplausibleImage("A B-scan of the Topcon file is in colour; OCT is grey.")
        if bscans is None:
            bscans = np.empty((scans, height, width), dtype=scan.dtype)
        bscans[number] = scan
        at += 4 + length
    assert bscans is not None, "check_size saw one scan or more"
    return mode, bscans


def _picture(
    stream: bytes, formats: tuple[str, ...], size: tuple[int, int], what: str
) -> NDArray[np.generic]:
    try:
        with Image.open(io.BytesIO(stream), formats=formats) as image:
            if image.size != size:
                raise Invalid(f"A {what} of the Topcon file is not of the size that its header says.")
            return np.asarray(image)
    except (*DECODER_ERRORS, MemoryError) as error:
        raise TruncatedImage(f"A {what} of the Topcon file is damaged and cannot be decoded.") from error


def _scale(file: _File, width: int, scans: int) -> tuple[float | None, float | None, float | None]:
    """Millimetres: axial, lateral, between. The file says the scanned field and the axial resolution."""
    for name, place in _SCALE.items():
        if name in file.chunks:
            numbers = file.chunk(name, 24, place)
            if len(numbers) == 24:
                x_mm, y_mm, z_um = struct.unpack("<3d", numbers)
                return z_um / 1000, x_mm / width, y_mm / scans
    return None, None, None


def _eye(file: _File) -> Laterality | None:
    for name in (b"@CAPTURE_INFO_02", b"@CAPTURE_INFO"):
        if name in file.chunks and (first := file.chunk(name, 1)):
            return _EYES.get(first[0])
    return None


def _fundus(file: _File) -> NDArray[np.uint8] | None:
    """The colour photograph of .fda (JPEG) or .fds (BGR); None where there is none that can be read."""
    if b"@IMG_FUNDUS" in file.chunks:
        head = file.chunk(b"@IMG_FUNDUS", 24)
        if len(head) < 24:
            return None
        width, height = struct.unpack_from("<2I", head)
        if not 0 < width * height <= _LARGEST_FUNDUS:
            return None
        stream = file.chunk(b"@IMG_FUNDUS", file.chunks[b"@IMG_FUNDUS"][1], 24)
        picture = _picture(stream, ("JPEG", "JPEG2000"), (width, height), "fundus image")
        return picture[..., ::-1].astype(np.uint8) if picture.ndim == 3 else picture.astype(np.uint8)
    if b"@IMG_OBS" in file.chunks:
        head = file.chunk(b"@IMG_OBS", 21)
        width, height, bits = struct.unpack_from("<3I", head) if len(head) == 21 else (0, 0, 0)
        if bits == 24 and 0 < width * height <= _LARGEST_FUNDUS:
            data = file.chunk(b"@IMG_OBS", width * height * 3, 21)
            if len(data) == width * height * 3:
                return np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)[..., ::-1]
    return None
