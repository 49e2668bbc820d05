"""Elements in their encoded form: how pydicom's raw elements are made and written without decoding a value.

Cleaning keeps most of a header as it is. Decoding and encoding it again would cost more than everything else that is
done with a CT slice, and would change what should stay byte for byte.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Final, cast

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr_element, write_data_element
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32
from pydicom.values import convert_SQ

from shared.imaging.dicom.errors import DamagedDicom

UNDEFINED: Final = 0xFFFFFFFF
DEEPEST: Final = 12
_MOST_REMEMBERED: Final = 16 * 2**10
"""Bytes of a sequence."""
_MOST_SEQUENCES: Final = 1000
READ_ERRORS: Final = (
    AttributeError,
    BytesLengthException,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom raises on bytes that are not what they should be."""
_LONG = frozenset(str(vr) for vr in EXPLICIT_VR_LENGTH_32)


@dataclass(frozen=True)
class Encoding:
    """How a data set is encoded."""

    implicit: bool
    little: bool

    def raw(self, tag: int, vr: str, value: bytes) -> RawDataElement:
        """An element of an encoded value, which is padded to even length."""
        if len(value) & 1:
            value += b"\0" if vr in ("UI", "OB", "UN") else b" "
        return RawDataElement(
            BaseTag(tag), None if self.implicit else vr, len(value), value, 0, self.implicit, self.little
        )

    def encoded(self, element: RawDataElement) -> Iterator[bytes]:
        """The element's bytes, its value as an object of its own so that pixels are not copied."""
        value = element.value or b""
        open_ended = element.length == UNDEFINED
        yield self._head(element, UNDEFINED if open_ended else len(value))
        yield value
        if open_ended:
            yield _STRUCTS[self.little].tag_length.pack(0xFFFE, 0xE0DD, 0)

    def items(self, items: Iterable[bytes]) -> bytes:
        """The value of a sequence."""
        head = _STRUCTS[self.little].tag_length.pack
        return b"".join(part for item in items for part in (head(0xFFFE, 0xE000, len(item)), item))

    def _head(self, element: RawDataElement, length: int) -> bytes:
        structs, tag = _STRUCTS[self.little], int(element.tag)
        group, number = tag >> 16, tag & 0xFFFF
        if self.implicit:
            return structs.tag_length.pack(group, number, length)
        vr = element.VR or "UN"
        if vr not in _LONG and length > 0xFFFF:
            vr = "UN"  # PS3.5 §6.2.2
        if vr in _LONG:
            return structs.long.pack(group, number, vr.encode(), 0, length)
        return structs.short.pack(group, number, vr.encode(), length)

    def from_decoded(
        self, element: DataElement, dataset: Dataset, charsets: tuple[str, ...]
    ) -> RawDataElement:
        """The encoded form of an element that pydicom has decoded, or that a program has made."""
        if len(element.VR) != 2:
            element = cast(DataElement, correct_ambiguous_vr_element(element, dataset, self.little))
        buffer = DicomBytesIO()
        buffer.is_implicit_VR, buffer.is_little_endian = self.implicit, self.little
        write_data_element(buffer, element, list(charsets))
        written = buffer.getvalue()
        open_ended = element.is_undefined_length
        vr = "UN" if not self.implicit and written[4:6] == b"UN" else str(element.VR)
        start = 12 if not self.implicit and vr in _LONG else 8
        raw = self.raw(element.tag, vr, written[start : len(written) - 8 * open_ended])
        return raw._replace(length=UNDEFINED) if open_ended else raw


@dataclass(frozen=True)
class _Structs:
    tag_length: Struct
    short: Struct
    long: Struct


_STRUCTS = {
    little: _Structs(*(Struct(order + form) for form in ("HHL", "HH2sH", "HH2sHL")))
    for little, order in ((True, "<"), (False, ">"))
}


@dataclass(frozen=True)
class Nested:
    """A sequence whose items have been opened. implicit: what the items themselves are encoded in."""

    tag: int
    vr: str | None
    items: tuple["tuple[Node, ...]", ...]
    encoding: Encoding
    charsets: tuple[str, ...]


Node = RawDataElement | Nested


class Opener:
    """Opens the sequences of data sets of one encoding; what they hold is not decoded.

    Many are the same in every image of a series, so those that were opened before are remembered.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, Encoding, tuple[str, ...]], tuple[tuple[Node, ...], ...]] = {}

    def nodes(
        self, dataset: Dataset, encoding: Encoding, charsets: tuple[str, ...], depth: int = 0
    ) -> tuple[Node, ...]:
        """The elements of a data set by tag, private ones and group lengths left out.

        Raises DamagedDicom where a sequence cannot be read.
        """
        if depth > DEEPEST:
            raise DamagedDicom(f"Sequences are nested more than {DEEPEST} deep.")
        elements = [
            cast(RawDataElement, element)
            for element in dataset.values()
            if not int(element.tag) & 0x10000 and int(element.tag) & 0xFFFF
        ]
        elements.sort(key=_number)
        return tuple(self._node(element, dataset, encoding, charsets, depth) for element in elements)

    def _node(
        self,
        element: RawDataElement,
        dataset: Dataset,
        encoding: Encoding,
        charsets: tuple[str, ...],
        depth: int,
    ) -> Node:
        if not element.is_raw:
            decoded = cast(DataElement, element)
            if decoded.VR == "SQ":
                return self._nested(decoded, encoding, charsets, depth)
            return encoding.from_decoded(decoded, dataset, charsets)
        if element.value is None and element.length:  # left in the file by `defer_size`
            element = cast(RawDataElement, dataset.get_item(element.tag))
        if element.VR == "SQ" or (element.VR in (None, "UN") and _is_sequence(int(element.tag))):
            return self._opened(element, encoding, charsets, depth)
        return element

    def _nested(
        self, element: DataElement, encoding: Encoding, charsets: tuple[str, ...], depth: int
    ) -> Nested:
        items = tuple(
            self.nodes(item, encoding, charsets_of(item, charsets), depth + 1) for item in element.value or ()
        )
        return Nested(int(element.tag), "SQ", items, encoding, charsets)

    def _opened(
        self, element: RawDataElement, encoding: Encoding, charsets: tuple[str, ...], depth: int
    ) -> Nested:
        inner = Encoding(True, True) if element.VR == "UN" else encoding  # PS3.5 §6.2.2 note 2
        value = element.value or b""
        key = (value, inner, charsets)
        if (items := self._known.get(key)) is None:
            items = tuple(
                self.nodes(item, inner, charsets_of(item, charsets), depth + 1)
                for item in _items(value, inner, charsets)
            )
            if len(value) <= _MOST_REMEMBERED and len(self._known) < _MOST_SEQUENCES:
                self._known[key] = items
        return Nested(int(element.tag), element.VR, items, inner, charsets)


def _number(element: RawDataElement) -> int:
    return int(element.tag)  # pydicom compares its own numbers slowly


@lru_cache(maxsize=16_384)
def _is_sequence(tag: int) -> bool:
    return dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"


def _items(value: bytes, encoding: Encoding, charsets: tuple[str, ...]) -> list[Dataset]:
    try:
        return list(convert_SQ(value, encoding.implicit, encoding.little, list(charsets)))
    except READ_ERRORS:
        raise DamagedDicom("A sequence of the header cannot be read.") from None


def charsets_of(dataset: Dataset, inherited: tuple[str, ...] = ("iso8859",)) -> tuple[str, ...]:
    """Python's names of the character sets that a data set states, or inherits."""
    if 0x00080005 not in dataset:
        return inherited
    element = cast(RawDataElement, dataset.get_item(0x00080005))
    value = element.value
    if isinstance(value, bytes):
        stated = value.decode("ascii", "replace").strip(" \0").split("\\")
    else:
        stated = [value] if isinstance(value, str) else [str(part) for part in cast(list[str], value or [""])]
    return tuple(python_encoding.get(name.strip(), "iso8859") for name in stated)
