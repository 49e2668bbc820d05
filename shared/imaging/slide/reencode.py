"""A slide's levels written anew as a plain tiled, pyramidal BigTIFF: no label, no texts, tile after tile."""

import io
import struct
from collections.abc import Iterator
from typing import IO

import numpy as np
from openslide import PROPERTY_NAME_BACKGROUND_COLOR, OpenSlide
from PIL import Image

from shared.imaging.slide.directories import REDUCED

TILE, QUALITY = 512, 90
_SHORT, _LONG, _RATIONAL, _LONG8 = 3, 4, 5, 16
_CODES = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}
_JPEG, _YCBCR, _HALVED, _CENTIMETRE = 7, 6, 2, 3
_UNITS_PER_CM = 10_000
_DENOMINATOR = 10_000

Field = tuple[int, int, list[int]]
"""Tag, type and numbers."""


def write_plain(slide: OpenSlide, mpp: tuple[float, float] | None, target: IO[bytes]) -> None:
    """Write every level of `slide` to the empty file `target`. mpp: µm per pixel of level 0."""
    target.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
    link = 8
    for level, (width, height) in enumerate(slide.level_dimensions):
        places, lengths = [], []
        for tile in _tiles(slide, level):
            places.append(target.tell())
            lengths.append(target.write(tile))
        fields: list[Field] = [
            (254, _LONG, [REDUCED if level else 0]),
            (256, _LONG, [width]),
            (257, _LONG, [height]),
            (258, _SHORT, [8, 8, 8]),
            (259, _SHORT, [_JPEG]),
            (262, _SHORT, [_YCBCR]),
            (277, _SHORT, [3]),
            *_resolution(mpp, slide.level_downsamples[level]),
            (322, _SHORT, [TILE]),
            (323, _SHORT, [TILE]),
            (324, _LONG8, places),
            (325, _LONG, lengths),
            (530, _SHORT, [_HALVED, _HALVED]),
        ]
        link = _write_directory(target, fields, link)


def _tiles(slide: OpenSlide, level: int) -> Iterator[bytes]:
    """JPEG tiles, row by row; what lies outside or was not scanned has the background's colour."""
    width, height = slide.level_dimensions[level]
    downsample = slide.level_downsamples[level]
    colour = "#" + slide.properties.get(PROPERTY_NAME_BACKGROUND_COLOR, "ffffff")
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            size = (min(TILE, width - left), min(TILE, height - top))
            region = slide.read_region((round(left * downsample), round(top * downsample)), level, size)
            tile = Image.new("RGB", (TILE, TILE), colour)
            tile.paste(region, (0, 0), region)
            buffer = io.BytesIO()
            tile.save(buffer, "JPEG", quality=QUALITY, subsampling="4:2:0")
            yield buffer.getvalue()


def _resolution(mpp: tuple[float, float] | None, downsample: float) -> list[Field]:
    if mpp is None:
        return []
    across, down = (round(_UNITS_PER_CM / (edge * downsample) * _DENOMINATOR) for edge in mpp)
    unit: Field = (296, _SHORT, [_CENTIMETRE])
    return [(282, _RATIONAL, [across, _DENOMINATOR]), (283, _RATIONAL, [down, _DENOMINATOR]), unit]


def _write_directory(target: IO[bytes], fields: list[Field], link: int) -> int:
    """Write a directory at the end of the file and name it at `link`; returns where it names the next one."""
    rows = b""
    for tag, kind, numbers in fields:
        data = _packed(kind, numbers)
        count = len(numbers) // 2 if kind == _RATIONAL else len(numbers)
        if len(data) > 8:
            place = target.tell()
            target.write(data)
            data = struct.pack("<Q", place)
        rows += struct.pack("<HHQ", tag, kind, count) + data.ljust(8, b"\x00")
    place = target.tell()
    target.write(struct.pack("<Q", len(fields)) + rows + bytes(8))
    target.seek(link)
    target.write(struct.pack("<Q", place))
    target.seek(0, io.SEEK_END)
    return place + 8 + len(rows)


def _packed(kind: int, numbers: list[int]) -> bytes:
    if kind == _RATIONAL:
        return struct.pack(f"<{len(numbers)}I", *numbers)
    return np.array(numbers, dtype=f"<u{struct.calcsize(_CODES[kind])}").tobytes()
