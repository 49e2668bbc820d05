"""From the bytes of an element to text and numbers, with nothing believed that cannot be so."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

from pydicom.charset import python_encoding

from shared.imaging.dicom.elements import LONGEST_VALUE, UNDEFINED, Bytes, DataSet
from shared.imaging.dicom.errors import DamagedDicom

LARGEST = 1e9
"""No length, time or number in a header that we use is greater."""
_UID = re.compile(r"[0-9A-Za-z._-]{1,64}")
_CHARACTER_SET = 0x00080005
_ENCODINGS = {re.sub(r"[ _-]+", " ", name.upper()): python for name, python in python_encoding.items()}


@dataclass(frozen=True)
class Values:
    """Reads the elements of one data set. encodings: Python's names for its character set."""

    data: Bytes
    elements: DataSet
    big: bool
    encodings: tuple[str, ...]

    @classmethod
    def of(cls, data: Bytes, elements: DataSet, big: bool) -> "Values":
        """With the character set that the data set names. Raises DamagedDicom when DICOM knows no such set."""
        plain = cls(data, elements, big, ("iso8859",))
        return cls(
            data, elements, big, tuple(_encoding(name) for name in plain.texts(_CHARACTER_SET) or ("",))
        )

    def inner(self, elements: DataSet) -> "Values":
        """The same of an item within."""
        return Values(self.data, elements, self.big, self.encodings)

    def merged(self, others: "Sequence[Values]") -> "Values":
        """The same with the elements of `others` in place of its own."""
        elements = dict(self.elements)
        for other in others:
            elements.update(other.elements)
        return self.inner(elements)

    def items(self, tag: int) -> "list[Values]":
        """The items of a sequence; none when it is absent."""
        found = self.elements.get(tag)
        return [self.inner(item) for item in found.items] if found else []

    def raw(self, tag: int) -> bytes:
        """The bytes of a value; empty when it is absent."""
        found = self.elements.get(tag)
        if found is None or found.length == UNDEFINED:
            return b""
        if found.length > LONGEST_VALUE:
            raise DamagedDicom(f"{named(tag)} has {found.length:,} bytes, more than such a value can have.")
        return self.data[found.start : found.start + found.length]

    def text(self, tag: int) -> str:
        """One text, outer spaces removed; bytes that its character set does not know become U+FFFD."""
        raw = self.raw(tag)
        return self._decode(raw).strip(" \0\r\n\t") if raw else ""

    def texts(self, tag: int) -> tuple[str, ...]:
        """The values of a text that may have several."""
        raw = self.raw(tag).strip(b" \0")
        return tuple(part.strip(" \0") for part in raw.decode("iso8859").split("\\")) if raw else ()

    def uid(self, tag: int) -> str:
        """A UID; empty when absent. Letters are let pass, as some anonymisers write them; DamagedDicom for others."""
        text = self.raw(tag).rstrip(b"\0 ").decode("iso8859")
        if text and not _UID.fullmatch(text):
            raise DamagedDicom(f"{named(tag)} is no UID; one has up to 64 digits and dots.")
        return text

    def short(self, tag: int) -> int | None:
        """A US value."""
        return self._binary(tag, "H", 2)

    def long(self, tag: int) -> int | None:
        """A UL value."""
        return self._binary(tag, "L", 4)

    def double(self, tag: int) -> float | None:
        """The first of FD values."""
        raw = self.raw(tag)[:8]
        value = float(Struct(self._order + "d").unpack(raw)[0]) if len(raw) == 8 else math.nan
        return value if math.isfinite(value) else None

    def numbers(self, tag: int, count: int) -> tuple[float, ...] | None:
        """`count` numbers that geometry rests on; None when absent. Raises DamagedDicom when they are not that."""
        texts = self.texts(tag)
        if not any(texts):
            return None
        numbers = [_number(text) for text in texts]
        if len(numbers) != count or None in numbers:
            raise DamagedDicom(f"{named(tag)} is not {count} finite number{'s' if count > 1 else ''}.")
        return tuple(number for number in numbers if number is not None)

    def number(self, tag: int) -> float | None:
        """The first number of a value that nothing else rests on; None when it cannot be read."""
        texts = self.texts(tag)
        return _number(texts[0]) if texts else None

    def whole(self, tag: int) -> int | None:
        """As `number`, for whole numbers."""
        number = self.number(tag)
        return int(number) if number is not None and number == int(number) else None

    @property
    def _order(self) -> str:
        return ">" if self.big else "<"

    def _binary(self, tag: int, form: str, size: int) -> int | None:
        raw = self.raw(tag)
        if not raw:
            return None
        if len(raw) < size:
            raise DamagedDicom(f"{named(tag)} has {len(raw)} bytes instead of {size}.")
        return int(Struct(self._order + form).unpack(raw[:size])[0])

    def _decode(self, raw: bytes) -> str:
        if raw.isascii() and b"\x1b" not in raw:
            return raw.decode("ascii")
        if len(self.encodings) == 1 or b"\x1b" not in raw:
            return raw.decode(self.encodings[0], errors="replace")
        return _escaped(raw, self.encodings)


def named(tag: int) -> str:
    """How messages write a tag."""
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"


def _number(text: str) -> float | None:
    try:
        number = float(text) if len(text) <= 32 else math.nan
    except ValueError:
        return None
    return number if abs(number) <= LARGEST else None  # NaN is not


def _encoding(name: str) -> str:
    """Python's name of a DICOM character set, spelling slips such as `ISO-IR 100` forgiven."""
    tidy = re.sub(r"[ _-]+", " ", name.strip().upper())
    found = _ENCODINGS.get(tidy)
    if found is None:
        raise DamagedDicom("The header names a character set (0008,0005) that DICOM does not know.")
    return found


def _escaped(raw: bytes, encodings: Sequence[str]) -> str:
    """Text that switches sets by ISO 2022 escapes; where Python knows no switching, the last set is used."""
    if "iso2022_jp" in encodings:
        return raw.decode("iso2022_jp", errors="replace")
    return re.sub(rb"\x1b[\x20-\x2f]*[\x30-\x7e]", b"", raw).decode(encodings[-1], errors="replace")
