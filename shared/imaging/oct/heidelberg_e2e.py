"""Heidelberg .e2e: directories of chunks, chained backwards; one file may hold several scans and both eyes.

Layout: the uocte wiki's "Heidelberg File Format", as told in OCT-Converter, eyepy (MIT) and LibE2E (LGPL).
Patients' chunks are never read.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import UnsupportedImage
from shared.formats.oct import e2e_start
from shared.formats.source import FileSource
from shared.imaging.nifti_header import ImplausibleImage, TooManyVoxels, TruncatedImage
from shared.imaging.oct.intensity import UFLOAT16
from shared.imaging.oct.volume import AXIAL_MM, MAX_BYTES, MAX_SCANS, Laterality, OctVolume, check_size

_IMAGE, _SCAN_INFO, _EYE, _PREAMBLE = 0x40000000, 10004, 11, 3
_EYE_PLACE = {_EYE: 14, _PREAMBLE: 4}
_EYES: Final[dict[bytes, Laterality]] = {b"R": "R", b"L": "L"}
_DIRECTORY = struct.Struct("<36x3I")  # entries, current, previous
_ENTRY = struct.Struct("<3I24xI4x")  # its own place, the chunk's place, size, type
_CHUNK = struct.Struct("<12s12xI4x3IiHxxI4x")  # magic, size, patient, study, series, slice, index, type
_PICTURE = struct.Struct("<12x2I")  # height, width
_MAX_DIRECTORIES = 4_096
_MAX_ENTRIES = 4_096
_MAX_CHUNKS = 400_000
_ANGLE_NOTE = (
    "An .e2e file gives the width of a pixel and the distance between scans as angles only; "
    "export .vol or DICOM from HEYEX to measure."
)
_Key = tuple[int, int, int]


@dataclass
class _Series:
    """What was found of one scan."""

    bscans: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    eyes: set[Laterality] = field(default_factory=set)
    axial: set[float] = field(default_factory=set)
    fundus: NDArray[np.uint8] | None = None


def read_e2e(path: Path, max_bytes: int = MAX_BYTES) -> tuple[OctVolume, ...]:
    """The scans in the .e2e file at `path`. Raises UnsupportedImage, Invalid or TooLarge."""
    found: dict[_Key, _Series] = {}
    with path.open("rb") as file:
        reader = _Reader(FileSource(file, path), max_bytes)
        for place, size in reader.chunks():
            reader.read_chunk(place, size, found)
    volumes = tuple(_volume(series) for _, series in sorted(found.items()) if series.bscans)
    if not volumes:
        raise UnsupportedImage("The .e2e file holds no OCT B-scans; export the scan itself from HEYEX.")
    return volumes


class _Reader:
    """Walks a file under guards and counts what it keeps."""

    def __init__(self, source: FileSource, max_bytes: int) -> None:
        start = e2e_start(source)
        if start is None:
            raise UnsupportedImage("The file is no Heidelberg .e2e file (it does not begin with CMDb).")
        self.source, self.start = source, start
        self.left = min(max_bytes, source.size)  # pixels: no place of the file is needed twice

    def _read(self, offset: int, count: int) -> bytes:
        data = self.source.read(self.start + offset, count)
        if len(data) < count:
            raise TruncatedImage(
                "The .e2e file names a place beyond its end; it is cut short. Send it again."
            )
        return data

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Place and size of the chunks that matter here."""
        at = _DIRECTORY.unpack(self._read(36, _DIRECTORY.size))[1]
        seen: set[int] = set()
        total = 0
        while at:
            if at in seen:
                raise ImplausibleImage("The .e2e file's directories run in a loop; the file is damaged.")
            if len(seen) == _MAX_DIRECTORIES:
                raise ImplausibleImage(f"The .e2e file has over {_MAX_DIRECTORIES:,} directories.")
            seen.add(at)
            count, _, previous = _DIRECTORY.unpack(self._read(at, _DIRECTORY.size))
            total += count
            if count > _MAX_ENTRIES or total > _MAX_CHUNKS:
                raise ImplausibleImage(
                    f"A directory of the .e2e file says {count:,} entries; that is implausible."
                )
            block = self._read(at + 52, count * _ENTRY.size)
            for own, place, size, kind in _ENTRY.iter_unpack(block):
                if place > own and kind in (_IMAGE, _SCAN_INFO, _EYE, _PREAMBLE):
                    yield place, size
            at = previous

    def read_chunk(self, place: int, _size: int, found: dict[_Key, _Series]) -> None:
        """Adds what the chunk at `place` says to its series."""
        magic, size, patient, study, series_id, number, index, kind = _CHUNK.unpack(
            self._read(place, _CHUNK.size)
        )
        if not magic.startswith(b"MDbData"):
            raise ImplausibleImage(
                "A chunk of the .e2e file does not begin as chunks do; the file is damaged."
            )
        series = found.setdefault((patient, study, series_id), _Series())
        body = place + _CHUNK.size
        if kind in _EYE_PLACE:
            if size > _EYE_PLACE[kind]:
                eye = _EYES.get(self._read(body + _EYE_PLACE[kind], 1))
                series.eyes |= {eye} if eye else set()
        elif kind == _SCAN_INFO and size >= 40:
            series.axial.add(round(struct.unpack("<f", self._read(body + 36, 4))[0], 7))
        elif kind == _IMAGE and index in (0, 1):
            self._image(series, body, number // 2, index)

    def _image(self, series: _Series, body: int, number: int, index: int) -> None:
        height, width = _PICTURE.unpack(self._read(body, _PICTURE.size))
        if height * width == 0:
            return
        check_size(1, height, width, 2 if index else 1)
        self.left -= height * width
        if self.left < 0 or len(series.bscans) >= MAX_SCANS:
            raise TooManyVoxels(
                "The .e2e file's images together are over the limit; export one scan per file."
            )
        data = self._read(body + _PICTURE.size, height * width * (2 if index else 1))
        if index == 0:
            series.fundus = np.frombuffer(data, dtype=np.uint8).reshape(height, width)
            return
        if not 0 <= number < MAX_SCANS:
            raise ImplausibleImage(
                f"The .e2e file numbers a B-scan {number:,}; 0 to {MAX_SCANS - 1:,} are plausible."
            )
        series.bscans.setdefault(number, UFLOAT16[np.frombuffer(data, dtype="<u2")].reshape(height, width))


def _volume(series: _Series) -> OctVolume:
    shapes = {scan.shape for scan in series.bscans.values()}
    if len(shapes) > 1:
        raise ImplausibleImage("The B-scans of one scan in the .e2e file differ in size.")
    bscans = np.empty((len(series.bscans), *shapes.pop()), dtype=np.uint8)
    for place, number in enumerate(sorted(series.bscans)):
        bscans[place] = series.bscans.pop(number)  # let go of each, so that memory holds them once
    eye = next(iter(series.eyes)) if len(series.eyes) == 1 else None
    axial = series.axial.pop() if len(series.axial) == 1 else None
    known = axial is not None and AXIAL_MM[0] <= axial <= AXIAL_MM[1]
    note = f"{_ANGLE_NOTE} Depth of a pixel: {axial * 1000:.2f} µm." if known and axial else _ANGLE_NOTE
    return OctVolume(bscans, None, note, eye, "Heidelberg", series.fundus)
