"""The directories of a TIFF, walked under guards before libtiff or OpenSlide see the file.

Classic, BigTIFF and Hamamatsu's NDPI (classic magic, 64-bit places). Loops, places outside the file, counts that
no file of this size can hold and impossible sizes are refused here, with the reason.
"""

import struct
from dataclasses import dataclass

from shared.errors import Invalid, TooLarge
from shared.formats.source import Source

MAX_DIRECTORIES = 1_000
MAX_ENTRIES = 256
"""With the number of images a bound on time, also where directories overlap in a small file."""
MAX_EDGE = 4_000_000
"""Pixels along an edge: ten times the longest slide."""
MAX_TILE_BYTES = 2**28
DESCRIPTION_BYTES = 8 * 2**10
NDPI_TAG = 65420

_WIDTH, _HEIGHT, _BITS, _DESCRIPTION, _STRIPS = 256, 257, 258, 270, 273
_ORIENTATION, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _FORMAT = 274, 277, 322, 323, 324, 339
_SCALARS = {_WIDTH, _HEIGHT, _BITS, _ORIENTATION, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT, _FORMAT}
_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True)
class Page:
    """One image of a TIFF. tile: None where it is stored in strips, as all of NDPI are, the largest too.

    description: its beginning only; it may name the patient.
    """

    width: int
    height: int
    bits: int
    samples: int
    sample_format: int
    orientation: int
    tile: tuple[int, int] | None
    description: bytes
    ndpi: bool = False


@dataclass(frozen=True)
class _Layout:
    """How numbers are stored: byte order, the widths of places and counts."""

    order: str
    big: bool
    ndpi: bool = False

    @property
    def entry_bytes(self) -> int:
        return 20 if self.big else 12


def is_tiff(head: bytes) -> bool:
    """Whether a file begins like TIFF or BigTIFF."""
    return head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def read_pages(source: Source) -> list[Page]:
    """Every image of the TIFF, in the order of the file. Raises Invalid or TooLarge."""
    layout, offset = _beginning(source)
    pages: list[Page] = []
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise Invalid("The TIFF's directories run in a loop; the file is damaged or made to harm.")
        if len(pages) == MAX_DIRECTORIES:
            raise TooLarge(f"The TIFF holds over {MAX_DIRECTORIES:,} images; that is the limit.")
        seen.add(offset)
        page, offset = _directory(source, layout, offset)
        pages.append(page)
    if not pages:
        raise Invalid("The TIFF holds no image.")
    return pages


def _beginning(source: Source) -> tuple[_Layout, int]:
    head = source.read(0, 16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\x00", b"\x00+")
    if len(head) < (16 if big else 8):
        raise Invalid("The TIFF ends inside its header; send it again.")
    if big:
        if struct.unpack_from(f"{order}HH", head, 4) != (8, 0):
            raise Invalid("The BigTIFF header says that places are not 8 bytes wide; the file is damaged.")
        return _Layout(order, True), struct.unpack_from(f"{order}Q", head, 8)[0]
    layout = _Layout(order, False)
    if order == "<" and len(head) >= 12:
        place = struct.unpack_from("<Q", head, 4)[0]
        if 8 < place < source.size and _has_ndpi_tag(source, place):
            return _Layout(order, False, ndpi=True), place
    return layout, struct.unpack_from(f"{order}I", head, 4)[0]


def _has_ndpi_tag(source: Source, offset: int) -> bool:
    count = int.from_bytes(source.read(offset, 2), "little")
    entries = source.read(offset + 2, min(count, MAX_ENTRIES) * 12)
    return any(
        int.from_bytes(entries[at : at + 2], "little") == NDPI_TAG for at in range(0, len(entries), 12)
    )


def _directory(source: Source, layout: _Layout, offset: int) -> tuple[Page, int]:
    """The image at `offset`, and the place of the next directory (0: none)."""
    width = 8 if layout.big else 2
    start = source.read(offset, width)
    if len(start) < width:
        raise Invalid(
            f"The TIFF has a directory at byte {offset:,}, but ends at {source.size:,}; it is cut short."
        )
    count = struct.unpack(f"{layout.order}{'Q' if layout.big else 'H'}", start)[0]
    if not 1 <= count <= MAX_ENTRIES:
        raise Invalid(f"A TIFF directory says {count:,} entries; 1 to {MAX_ENTRIES:,} are plausible.")
    size = count * layout.entry_bytes
    pointer = 8 if layout.big or layout.ndpi else 4
    block = source.read(offset + width, size + pointer + (4 * count if layout.ndpi else 0))
    if len(block) < size:
        raise Invalid("The TIFF ends inside a directory; send it again.")
    numbers, counts, description = _entries(source, layout, block, count)
    next_code = f"{layout.order}{'Q' if pointer == 8 else 'I'}"
    after = struct.unpack_from(next_code, block, size)[0] if len(block) >= size + pointer else 0
    return _page(numbers, counts, description, layout.ndpi), after


def _entries(
    source: Source, layout: _Layout, block: bytes, count: int
) -> tuple[dict[int, int], dict[int, int], bytes]:
    """The first value of each scalar tag, the number of values of each tag, and the description's beginning."""
    code = f"{layout.order}HH{'QQ' if layout.big else 'II'}"
    inline = 8 if layout.big else 4
    numbers: dict[int, int] = {}
    counts: dict[int, int] = {}
    description = b""
    for i in range(count):
        at = i * layout.entry_bytes
        tag, kind, values, place = struct.unpack_from(code, block, at)
        wide = _TYPE_BYTES.get(kind)
        if wide is None:
            continue  # readers must skip types they do not know
        if layout.ndpi and wide * values > inline:
            high_at = count * 12 + 8 + 4 * i
            place |= int.from_bytes(block[high_at : high_at + 4], "little") << 32
        length = wide * values
        outside = length > inline and (place > source.size or place + length > source.size)
        if outside:
            raise Invalid(
                f"The TIFF's tag {tag} says {values:,} values at byte {place:,}; the file has {source.size:,} bytes."
            )
        counts[tag] = values
        field = at + (12 if layout.big else 8)
        if tag in _SCALARS and kind in _INTEGERS and values:
            raw = block[field : field + inline] if length <= inline else source.read(place, wide)
            numbers[tag] = struct.unpack_from(f"{layout.order}{_INTEGERS[kind]}", raw)[0]
        elif tag == _DESCRIPTION and not description:
            take = min(length, DESCRIPTION_BYTES)
            description = block[field : field + take] if length <= inline else source.read(place, take)
    return numbers, counts, description


def _page(numbers: dict[int, int], counts: dict[int, int], description: bytes, ndpi: bool) -> Page:
    width, height = numbers.get(_WIDTH, 0), numbers.get(_HEIGHT, 0)
    if not (1 <= width <= MAX_EDGE and 1 <= height <= MAX_EDGE):
        raise Invalid(f"A TIFF image says {width:,} × {height:,} pixels; 1 to {MAX_EDGE:,} are plausible.")
    samples, bits = numbers.get(_SAMPLES, 1), numbers.get(_BITS, 1)
    if not (1 <= samples <= 64 and 1 <= bits <= 64):
        raise Invalid(
            f"A TIFF image says {samples} samples of {bits} bits for each pixel; that is implausible."
        )
    tile = _tile(numbers, counts, width, height)
    if tile is None and not counts.get(_STRIPS):
        raise Invalid("A TIFF image has neither strips nor tiles; the file is damaged.")
    return Page(
        width,
        height,
        bits,
        samples,
        numbers.get(_FORMAT, 1),
        numbers.get(_ORIENTATION, 1),
        tile,
        description,
        ndpi,
    )


def _tile(numbers: dict[int, int], counts: dict[int, int], width: int, height: int) -> tuple[int, int] | None:
    if not {_TILE_WIDTH, _TILE_HEIGHT, _TILES} & (numbers.keys() | counts.keys()):
        return None
    across, down = numbers.get(_TILE_WIDTH, 0), numbers.get(_TILE_HEIGHT, 0)
    samples, bits = numbers.get(_SAMPLES, 1), numbers.get(_BITS, 1)
    if across < 1 or down < 1 or across * down * samples * bits > 8 * MAX_TILE_BYTES:
        raise Invalid(f"A TIFF image says tiles of {across:,} × {down:,} pixels; that is implausible.")
    grid = -(-width // across) * -(-height // down)
    if counts.get(_TILES, 0) not in (grid, grid * samples):
        raise Invalid(f"A TIFF image of {grid:,} tiles lists {counts.get(_TILES, 0):,}; the file is damaged.")
    return across, down
