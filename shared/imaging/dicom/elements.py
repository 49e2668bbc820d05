"""A walk over the elements of a DICOM data set that costs little and is bounded, whatever the bytes say.

Nothing is decoded and nothing is copied but the values asked for. Sequences of stated length are stepped over
unless they are asked for; those of undefined length have to be walked to find their end.
"""

import mmap
from collections.abc import Collection
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

from shared.imaging.dicom.errors import DamagedDicom

Bytes = bytes | mmap.mmap

PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Float, double float and integer pixel data: the walk ends there."""
UNDEFINED = 0xFFFFFFFF
MOST_ELEMENTS = 1_000_000
"""A multi-frame file of 4,000 frames has about 150,000."""
MOST_PRIVATE = 20_000
DEEPEST = 12
LONGEST_VALUE = 64 * 2**10
"""Of an element that is asked for: names, numbers and codes; the standard allows at most 10,240 characters."""

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
    | {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)


class Element(NamedTuple):
    """Where one value lies. length is UNDEFINED for compressed pixels; items: of a sequence that was asked for."""

    start: int
    length: int
    items: "tuple[DataSet, ...]" = ()


DataSet = dict[int, Element]
"""The elements asked for, by tag (group × 65536 + element)."""


@dataclass
class Walker:
    """Walks one data set of `data` and raises DamagedDicom where it breaks the rules of the encoding.

    wanted: tags to keep, at any depth; sequences among them are opened. implicit, big: the encoding.
    """

    data: Bytes
    wanted: Collection[int]
    implicit: bool = False
    big: bool = False
    elements: int = 0
    private: int = 0
    size: int = field(init=False)

    def __post_init__(self) -> None:
        order = ">" if self.big else "<"
        self.size = len(self.data)
        self._explicit = Struct(order + "HH2sH").unpack_from
        self._implicit = Struct(order + "HHL").unpack_from
        self._length = Struct(order + "L").unpack_from

    def data_set(self, start: int, end: int | None = None) -> DataSet:
        """The wanted elements from `start` to the pixel data, which is included, or to `end`."""
        return self._data_set(start, self.size if end is None else end, 0, False)[0]

    def step(self, at: int) -> int:
        """Where the element at `at` ends; it must be a plain one."""
        _, _, value, length = self._head(at, self.size)
        if length == UNDEFINED:
            raise DamagedDicom("The file's meta information (group 2) holds a sequence.")
        self._count(0)
        return value + length

    def _data_set(self, at: int, end: int, depth: int, delimited: bool) -> tuple[DataSet, int]:
        """Elements up to `end`, or up to the item's delimiter when `delimited`; and where the walk stopped."""
        found: DataSet = {}
        while at < end:
            tag, vr, value, length = self._head(at, end)
            if tag == _ITEM_END and delimited:
                return found, value
            if tag in PIXELS and depth == 0:
                found[tag] = Element(value, length)
                return found, value
            self._count(tag)
            items: tuple[DataSet, ...] = ()
            if length == UNDEFINED:
                items, at = self._sequence(value, end, depth + 1, None, vr == b"UN")
            else:
                at = value + length
                if tag in self.wanted and vr in (b"SQ", b"") and self._holds_items(value, length):
                    items, _ = self._sequence(value, at, depth + 1, length, False)
            if tag in self.wanted:
                found[tag] = Element(value, length, items)
        if delimited:
            raise DamagedDicom("An item of undefined length never ends; the file is cut off or damaged.")
        return found, at

    def _head(self, at: int, end: int) -> tuple[int, bytes, int, int]:
        """Tag, VR (empty when implicit), start and length of the element at `at`, checked against `end`."""
        if at + 8 > end:
            raise DamagedDicom(f"The data set ends inside an element, at byte {at:,} of {self.size:,}.")
        if self.implicit:
            group, number, length = self._implicit(self.data, at)
            vr, value = b"", at + 8
        else:
            group, number, vr, length = self._explicit(self.data, at)
            value = at + 8
            if group == 0xFFFE:
                vr, length = b"", self._length(self.data, at + 4)[0]
            elif vr in _LONG_VRS:
                if at + 12 > end:
                    raise DamagedDicom(
                        f"The data set ends inside an element, at byte {at:,} of {self.size:,}."
                    )
                length, value = self._length(self.data, at + 8)[0], at + 12
            elif vr not in _SHORT_VRS:
                raise DamagedDicom(
                    f"Element ({group:04x},{number:04x}) has no value type that DICOM knows; the byte order or "
                    "encoding is not the one that the transfer syntax states."
                )
        if length == UNDEFINED or length > end - value or length & 1:
            self._check_length(group << 16 | number, vr, length, end - value)
        return group << 16 | number, vr, value, length

    def _check_length(self, tag: int, vr: bytes, length: int, following: int) -> None:
        """Whether an unusual length is one that an element may have."""
        name = f"Element ({tag >> 16:04x},{tag & 0xFFFF:04x})"
        if tag in PIXELS and (length == UNDEFINED or length <= following):
            return  # an odd number of pixels often lacks the byte that makes it even
        if length == UNDEFINED:
            if tag >> 16 != 0xFFFE and vr not in (b"", b"SQ", b"UN"):
                raise DamagedDicom(f"{name} has no length and is no sequence.")
        elif length > following:
            raise DamagedDicom(f"{name} says that it has {length:,} bytes; {following:,} follow.")
        else:
            raise DamagedDicom(f"{name} has an odd length; DICOM's are even.")

    def _count(self, tag: int) -> None:
        self.elements += 1
        if self.elements > MOST_ELEMENTS:
            raise DamagedDicom(f"The header has more than {MOST_ELEMENTS:,} elements.")
        if tag & 0x10000:
            self.private += 1
            if self.private > MOST_PRIVATE:
                raise DamagedDicom(f"The header has more than {MOST_PRIVATE:,} private elements.")
        if tag >> 16 == 0xFFFE:
            raise DamagedDicom("An item or delimiter stands outside a sequence.")

    def _holds_items(self, value: int, length: int) -> bool:
        return length >= 8 and self.data[value : value + 4] in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")

    def _sequence(
        self, at: int, end: int, depth: int, length: int | None, unknown: bool
    ) -> tuple[tuple[DataSet, ...], int]:
        """The items from `at`; `length` None: up to the delimiter. unknown: VR UN, whose items are implicit."""
        if depth > DEEPEST:
            raise DamagedDicom(f"Sequences are nested more than {DEEPEST} deep.")
        implicit, self.implicit = self.implicit, self.implicit or (unknown and length is None)
        items: list[DataSet] = []
        try:
            while length is None or at < end:
                tag, _, value, size = self._head(at, end)
                if tag == _SEQUENCE_END and length is None:
                    return tuple(items), value
                if tag != _ITEM:
                    raise DamagedDicom("Something that is no item stands in a sequence.")
                self.elements += 1
                if size == UNDEFINED:
                    item, at = self._data_set(value, end, depth, True)
                else:
                    item, at = self._data_set(value, value + size, depth, False)
                items.append(item)
            return tuple(items), at
        finally:
            self.implicit = implicit


def end_of_fragments(data: Bytes, start: int, most: int) -> int:
    """Where compressed pixel data ends, its closing delimiter included.

    Raises DamagedDicom when there are more than `most` fragments, or one passes the end of the file.
    """
    found = 0
    unpack = Struct("<LL").unpack_from
    at, size = start, len(data)
    while at + 8 <= size:
        tag, length = unpack(data, at)
        if tag == 0xE0DDFFFE:
            return at + 8
        if tag != 0xE000FFFE or length > size - at - 8:
            raise DamagedDicom(
                f"The compressed pixel data is damaged or cut off, at byte {at:,} of {size:,}."
            )
        found += 1
        if found > most:
            raise DamagedDicom(f"The compressed pixel data has more than {most:,} fragments.")
        at += 8 + length
    raise DamagedDicom("The compressed pixel data never ends; the file is cut off.")
