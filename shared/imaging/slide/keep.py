"""A copy of a TIFF with only what is listed, every byte of it at its old place, and zeros everywhere else.

So nothing of what is dropped stays behind, not even where no directory points any more; no place inside the file has
to be computed anew, which keeps NDPI's 64-bit places and its tables of restart markers right; and the memory needed
does not grow with the pixels. What took up more room than it needs leaves a hole, which costs no disk.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

import numpy as np

from shared.imaging.slide.directories import (
    BITS,
    COMPRESSION,
    HEIGHT,
    ICC,
    JPEG_TABLES,
    PHOTOMETRIC,
    ROWS_PER_STRIP,
    SAMPLES,
    STRIP_BYTES,
    STRIPS,
    TILE_BYTES,
    TILES,
    WIDTH,
    XMP,
    Directory,
    Entry,
    NotInPlace,
    Ranges,
    Tiff,
)
from shared.imaging.slide.errors import BrokenSlide
from shared.imaging.slide.ranges import blocks, merged, together, touch
from shared.imaging.slide.streams import plain_profile, plain_tables, words_in

BLOCK = 8 * 2**20
NUMBERS = frozenset(
    {254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 282, 283, 284, 296, 301, 317, 318, 319}
    | {320, 322, 323, 324, 325, 338, 339, 529, 530, 531, 532, 32997}
)
"""TIFF tags that stay, if they hold numbers: what pixels are decoded with and how large they are."""
NDPI_NUMBERS = frozenset({65420, 65421, 65422, 65423, 65424, 65426, 65432, 65441, 65444, 65447, 65451, 65500})
"""Of Hamamatsu's: format flag, lens, offsets from the slide's centre, restart markers, capture mode, JPEG quality,
blank lines, wavelength, gamma. Not: reference (65427), authentication code (65428), serial number (65442), times."""
LARGE = frozenset({STRIPS, STRIP_BYTES, TILES, TILE_BYTES, 65426, 65432})
MOST_NUMBERS_BYTES = 2**20
"""Of any tag but the large ones."""
_NUMBER_KINDS = {3, 4, 5, 8, 9, 10, 11, 12, 13, 16, 17}
ASCII, BYTE, SHORT, LONG, UNDEFINED = 2, 1, 3, 4, 7


@dataclass(frozen=True)
class Page:
    """A directory that stays. texts: the new content of its texts, by tag; others go.

    emptied: only its texts stay; its picture becomes one black pixel.
    """

    directory: Directory
    texts: Mapping[int, bytes] = field(default_factory=dict)
    emptied: bool = False


@dataclass(frozen=True)
class _Value:
    """An entry to write. room: where its values may lie."""

    tag: int
    kind: int
    count: int
    data: bytes
    room: tuple[int, int] | None = None
    high: bytes = bytes(4)


def write_kept(tiff: Tiff, pages: Sequence[Page], target: IO[bytes]) -> None:
    """Write the file with these pages only. Raises BrokenSlide where pixels that stay share bytes with anything else,
    NotInPlace where a new text has no room."""
    if any(directory.repeated for directory in tiff.directories):
        raise BrokenSlide("A TIFF directory of the slide has a tag twice; the file is damaged.")
    kept = {page.directory.place for page in pages}
    pictures = [page.directory for page in pages if not page.emptied]
    pixels = together([tiff.pixels(directory) for directory in pictures])
    dropped = [directory for directory in tiff.directories if directory.place not in kept]
    dropped += [page.directory for page in pages if page.emptied]
    others = together(
        [tiff.claimed(directory) for directory in dropped]
        + [tiff.structures(directory) for directory in tiff.directories]
        + [np.array([[0, tiff.format.first_at + tiff.format.next_bytes]], dtype=np.uint64)]
    )
    if touch(pixels, others):
        raise BrokenSlide("The slide's pixels share bytes with its label or headers; the file is damaged.")
    sheet = _Sheet(tiff)
    sheet.lay_out(pages)
    sheet.check()
    _copy_pixels(tiff, pixels, target)
    for directory in pictures:
        _blank_words(tiff, directory, target)
    for place, data in sheet.pieces:
        target.seek(place)
        target.write(data)
    target.truncate(sheet.end)


class _Sheet:
    """Header, directories and their values, as they will be written."""

    def __init__(self, tiff: Tiff) -> None:
        self.tiff, self.format = tiff, tiff.format
        self.end = tiff.source.size
        self.pieces: list[tuple[int, bytes]] = []

    def lay_out(self, pages: Sequence[Page]) -> None:
        """Gives every directory its place, which the one before must name."""
        values = [sorted(self._values(page), key=lambda value: value.tag) for page in pages]
        places = [
            self._place(self._directory_bytes(len(rows)), (page.directory.place, page.directory.length))
            for page, rows in zip(pages, values, strict=True)
        ]
        head = self.tiff.source.read(0, self.format.first_at)
        self.pieces.append((0, head + self.format.next_place(places[0])))
        for place, following, rows in zip(places, [*places[1:], 0], values, strict=True):
            self.pieces.append((place, self._directory(rows, following)))

    def check(self) -> None:
        """Raises BrokenSlide where two pieces overlap, unless they are the same."""
        self.pieces = sorted(set(self.pieces))
        for (place, data), (following, _) in zip(self.pieces, self.pieces[1:], strict=False):
            if place + len(data) > following:
                raise BrokenSlide("The slide's TIFF directories overlap; the file is damaged.")

    def _directory_bytes(self, count: int) -> int:
        form = self.format
        return form.count_bytes + count * (form.entry_bytes + (4 if form.ndpi else 0)) + form.next_bytes

    def _place(self, length: int, room: tuple[int, int] | None) -> int:
        if room is not None and length <= room[1]:
            return room[0]
        if self.format.ndpi:
            raise NotInPlace  # what a directory names must lie before it
        place = self.end + self.end % 2
        self.end = place + length
        if not self.format.big and self.end >= 2**32:
            raise NotInPlace
        return place

    def _directory(self, values: Sequence[_Value], following: int) -> bytes:
        form = self.format
        block = form.pack("Q" if form.big else "H", len(values))
        for value in values:
            block += form.pack("HHQ" if form.big else "HHI", value.tag, value.kind, value.count)
            if len(value.data) <= form.inline_bytes:
                block += value.data.ljust(form.inline_bytes, b"\x00")
            else:
                place = self._place(len(value.data), value.room)
                self.pieces.append((place, value.data))
                block += form.pack("Q", place) if form.big else form.pack("I", place & 0xFFFFFFFF)
        block += form.next_place(following)
        return block + b"".join(value.high for value in values) if form.ndpi else block

    def _values(self, page: Page) -> Iterator[_Value]:
        yield from self._texts(page)
        if page.emptied:
            yield from self._black_pixel()
            return
        entries = page.directory.entries
        numbers = NUMBERS | NDPI_NUMBERS if self.format.ndpi else NUMBERS
        for entry in entries.values():
            if entry.tag in numbers and entry.kind in _NUMBER_KINDS:
                if entry.length > MOST_NUMBERS_BYTES and entry.tag not in LARGE:
                    raise BrokenSlide(
                        f"The slide's TIFF tag {entry.tag} holds too much; the file is damaged."
                    )
                yield _Value(
                    entry.tag, entry.kind, entry.count, self.tiff.raw(entry), _room(entry), entry.high
                )
        if JPEG_TABLES in entries:
            tables = plain_tables(self.tiff.raw(entries[JPEG_TABLES]))
            yield _Value(JPEG_TABLES, UNDEFINED, len(tables), tables, _room(entries[JPEG_TABLES]))
        if ICC in entries and (profile := plain_profile(self.tiff.raw(entries[ICC]))):
            yield _Value(ICC, UNDEFINED, len(profile), profile, _room(entries[ICC]))

    def _texts(self, page: Page) -> Iterator[_Value]:
        for tag, text in page.texts.items():
            kind = BYTE if tag == XMP else ASCII
            data = text + b"\x00"
            entry = page.directory.entries.get(tag)
            yield _Value(tag, kind, len(data), data, _room(entry) if entry else None)

    def _black_pixel(self) -> Iterator[_Value]:
        place = self._place(2, None)
        self.pieces.append((place, bytes(2)))
        numbers = {WIDTH: 1, HEIGHT: 1, COMPRESSION: 1, PHOTOMETRIC: 1, SAMPLES: 1, ROWS_PER_STRIP: 1}
        numbers |= {BITS: 8, STRIPS: place, STRIP_BYTES: 1}
        for tag, number in numbers.items():
            long = "Q" if self.format.big else "I"
            yield _Value(tag, 16 if self.format.big else LONG, 1, self.format.pack(long, number))


def _room(entry: Entry) -> tuple[int, int] | None:
    return None if entry.place is None else (entry.place, entry.length)


def _copy_pixels(tiff: Tiff, pixels: Ranges, target: IO[bytes]) -> None:
    for place, length in blocks(merged(pixels), BLOCK):
        target.seek(place)
        target.write(tiff.source.read(place, length))


def _blank_words(tiff: Tiff, directory: Directory, target: IO[bytes]) -> None:
    compression = tiff.number(directory, COMPRESSION, 1)
    for place, length in _once(tiff.pixels(directory)):
        for start, count in words_in(tiff.source, place, length, compression):
            target.seek(start)
            for _, piece in blocks(np.array([[start, count]], dtype=np.uint64), BLOCK):
                target.write(bytes(piece))


def _once(pixels: Ranges) -> Iterable[tuple[int, int]]:
    """Each piece once, by place, though many tiles may share it."""
    yield from np.unique(pixels, axis=0).tolist()
