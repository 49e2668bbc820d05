"""The directories of a slide's TIFF whole: every entry, where its values lie, and which bytes are pixels.

Classic, BigTIFF and NDPI (a classic TIFF whose places have 64 bits: the upper halves of its entries' numbers follow the
directory). `read_pages` walks the chain under its guards before.
"""

import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.formats.source import Source
from shared.formats.tiff import read_pages
from shared.imaging.slide.errors import BrokenSlide

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION = 256, 257, 258, 259, 262, 270
STRIPS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, SOFTWARE = 273, 277, 278, 279, 305
TILE_WIDTH, TILES, TILE_BYTES, JPEG_TABLES, XMP, ICC = 322, 324, 325, 347, 700, 34675
SUBFILE, NDPI_FLAG, NDPI_LENS = 254, 65420, 65421
REDUCED = 1
MAX_VALUES_BYTES = 2**26
"""Of one entry: the places of 8 million tiles; a slide of 50 GB has 2 million."""

KINDS = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u8", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "i8"}
KINDS |= {11: "f4", 12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}
_WHOLE = {1, 3, 4, 13, 16, 18}
_ENDIAN: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}

Ranges = NDArray[np.uint64]
"""(n, 2): first byte and number of bytes of pieces of a file."""


class NotInPlace(Exception):
    """This file cannot be cleaned with certainty as it is; its pixels must be written anew."""


@dataclass(frozen=True)
class Entry:
    """One tag of a directory. field: the bytes where a short value, or the place of a longer one, stands."""

    tag: int
    kind: int
    count: int
    field: bytes
    place: int | None
    """Where the values lie; None where they are short and stand in `field`."""
    high: bytes = b""
    """NDPI: the upper four bytes of what `field` says."""

    @property
    def length(self) -> int:
        """Bytes of all values."""
        return self.count * np.dtype(KINDS[self.kind]).itemsize


@dataclass(frozen=True)
class Directory:
    """One image of the TIFF: `place` and `length` of the directory's own bytes, and its entries by tag."""

    place: int
    length: int
    entries: dict[int, Entry]
    repeated: bool
    """Whether a tag is there twice, of which readers take the first or the last."""

    @property
    def is_tiled(self) -> bool:
        """Whether its pixels lie in tiles."""
        return TILE_WIDTH in self.entries


@dataclass(frozen=True)
class Format:
    """How this TIFF writes its numbers."""

    order: str
    big: bool
    ndpi: bool

    @property
    def count_bytes(self) -> int:
        """Width of the number of entries."""
        return 8 if self.big else 2

    @property
    def entry_bytes(self) -> int:
        """Width of an entry."""
        return 20 if self.big else 12

    @property
    def inline_bytes(self) -> int:
        """Longest value that stands in its entry."""
        return 8 if self.big else 4

    @property
    def next_bytes(self) -> int:
        """Width of the next directory's place."""
        return 8 if self.big or self.ndpi else 4

    @property
    def first_at(self) -> int:
        """Where the header names the first directory."""
        return 8 if self.big else 4

    def pack(self, code: str, *numbers: int) -> bytes:
        """Numbers in this file's byte order."""
        return struct.pack(self.order + code, *numbers)

    def next_place(self, place: int) -> bytes:
        """The place of a directory, as headers and directories write it."""
        return self.pack("Q" if self.next_bytes == 8 else "I", place)


class Tiff:
    """A TIFF's format and directories, in the order of the chain. Raises Invalid, TooLarge."""

    def __init__(self, source: Source) -> None:
        self.source = source
        ndpi = any(page.ndpi for page in read_pages(source))
        head = source.read(0, 16)
        self.format = Format("<" if head[:2] == b"II" else ">", head[2:4] in (b"+\x00", b"\x00+"), ndpi)
        code = self.format.order + ("Q" if self.format.next_bytes == 8 else "I")
        place = struct.unpack_from(code, head, self.format.first_at)[0]
        self.directories: list[Directory] = []
        while place:
            directory, place = self._directory(place)
            self.directories.append(directory)

    def raw(self, entry: Entry) -> bytes:
        """The bytes of an entry's values. Raises BrokenSlide where there are too many or the file ends before."""
        if entry.length > MAX_VALUES_BYTES:
            raise BrokenSlide(f"The slide's TIFF tag {entry.tag} holds {entry.length:,} bytes; too many.")
        if entry.place is None:
            return entry.field[: entry.length]
        found = self.source.read(entry.place, entry.length)
        if len(found) < entry.length:
            raise BrokenSlide(f"The slide's TIFF tag {entry.tag} points outside the file; it is damaged.")
        return found

    def numbers(self, directory: Directory, tag: int) -> NDArray[np.uint64]:
        """The whole numbers of a tag; none where it is absent or holds others."""
        entry = directory.entries.get(tag)
        if entry is None or entry.kind not in _WHOLE:
            return np.zeros(0, dtype=np.uint64)
        values = np.frombuffer(self.raw(entry), dtype=self.format.order + KINDS[entry.kind]).astype(np.uint64)
        if entry.count == 1 and any(entry.high):
            values = values + np.uint64(int.from_bytes(entry.high, "little") << 32)
        return np.asarray(values, dtype=np.uint64)

    def number(self, directory: Directory, tag: int, default: int = 0) -> int:
        """The first whole number of a tag."""
        values = self.numbers(directory, tag)
        return int(values[0]) if len(values) else default

    def real(self, directory: Directory, tag: int) -> float:
        """The first number of a tag of floating-point numbers; NaN without one."""
        entry = directory.entries.get(tag)
        if entry is None or KINDS[entry.kind] not in ("f4", "f8") or not entry.count:
            return float("nan")
        return float(np.frombuffer(self.raw(entry), dtype=self.format.order + KINDS[entry.kind])[0])

    def text(self, directory: Directory, tag: int) -> bytes:
        """The bytes of a text up to its NUL; b"" where it is absent."""
        entry = directory.entries.get(tag)
        return b"" if entry is None else self.raw(entry).split(b"\x00", 1)[0]

    def pixels(self, directory: Directory) -> Ranges:
        """Where the compressed tiles or strips lie, empty ones left out. Raises BrokenSlide."""
        starts, sizes = self._pieces(directory)
        if len(starts) != len(sizes):
            raise BrokenSlide("The slide lists more pieces of an image than sizes of them, or fewer.")
        end = np.uint64(self.source.size)
        if np.any((sizes > 0) & ((starts > end) | (sizes > end) | (starts + sizes > end))):
            raise BrokenSlide("The slide's pixels lie outside the file; it is damaged or cut short.")
        return np.asarray(np.stack([starts, sizes], axis=1)[sizes > 0], dtype=np.uint64)

    def claimed(self, directory: Directory) -> Ranges:
        """What `pixels` says of an image that is not kept and may be damaged: as much of it as lies in the file."""
        starts, sizes = self._pieces(directory)
        end, count = np.uint64(self.source.size), min(len(starts), len(sizes))
        starts = np.minimum(starts[:count], end)
        sizes = np.minimum(sizes[:count], end - starts)
        return np.asarray(np.stack([starts, sizes], axis=1)[sizes > 0], dtype=np.uint64)

    def structures(self, directory: Directory) -> Ranges:
        """Where the directory lies, and the values of its entries that do not stand in it."""
        found = [(directory.place, directory.length)]
        found += [(e.place, e.length) for e in directory.entries.values() if e.place is not None]
        return np.array(found, dtype=np.uint64)

    def _pieces(self, directory: Directory) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        places, lengths = (TILES, TILE_BYTES) if directory.is_tiled else (STRIPS, STRIP_BYTES)
        return self.numbers(directory, places), self.numbers(directory, lengths)

    def _directory(self, place: int) -> tuple[Directory, int]:
        form = self.format
        count = int.from_bytes(self.source.read(place, form.count_bytes), _ENDIAN[form.order])
        size = count * form.entry_bytes
        length = form.count_bytes + size + form.next_bytes + (4 * count if form.ndpi else 0)
        block = self.source.read(place + form.count_bytes, length - form.count_bytes)
        if len(block) < size + form.next_bytes:
            raise BrokenSlide("The slide's last TIFF directory is cut short; send it again.")
        entries: dict[int, Entry] = {}
        repeated = False
        for number in range(count):
            entry = self._entry(block, number, count)
            if entry is None:
                continue
            repeated = repeated or entry.tag in entries
            entries.setdefault(entry.tag, entry)
        following = int.from_bytes(block[size : size + form.next_bytes], _ENDIAN[form.order])
        return Directory(place, min(length, self.source.size - place), entries, repeated), following

    def _entry(self, block: bytes, number: int, count: int) -> Entry | None:
        form, at = self.format, number * self.format.entry_bytes
        tag, kind, values = struct.unpack_from(form.order + ("HHQ" if form.big else "HHI"), block, at)
        field = block[at + form.entry_bytes - form.inline_bytes : at + form.entry_bytes]
        high_at = count * form.entry_bytes + form.next_bytes + 4 * number
        high = block[high_at : high_at + 4] if form.ndpi else b""
        if kind not in KINDS:
            return None
        entry = Entry(tag, kind, values, field, None, high)
        if entry.length <= form.inline_bytes:
            return entry
        place = int.from_bytes(field, _ENDIAN[form.order]) + (int.from_bytes(high, "little") << 32)
        return Entry(tag, kind, values, field, place, high)
