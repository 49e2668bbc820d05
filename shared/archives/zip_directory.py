"""The central directory of a zip, read entry by entry and held against the members it points at."""

import os
from dataclasses import dataclass
from struct import Struct
from typing import IO

from shared.archives.errors import BadArchive, UnsupportedArchive
from shared.archives.limits import Ledger

_END = Struct("<4s4H2LH")
_END_64 = Struct("<4sQ2H2L4Q")
_LOCATOR_64 = Struct("<4sLQL")
_ENTRY = Struct("<4s6H3L5H2L")
_LOCAL = Struct("<4s5H3L2H")
_WIDE, _WIDE_16 = 0xFFFFFFFF, 0xFFFF
_DESCRIPTORS = (12, 16, 20, 24)  # with or without signature, sizes of 32 or 64 bits
_ENCRYPTED, _DESCRIPTOR_FOLLOWS, _PATCH, _STRONG, _UTF8, _MASKED = 1, 1 << 3, 1 << 5, 1 << 6, 1 << 11, 1 << 13
_DAMAGED = "The zip's directory contradicts the file; pack and send it again."
_WITHOUT_END = (
    "The zip has no directory at its end, so it was cut short or added to; send it as it was written."
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A member as the directory has it. start: of its local header. mode: Unix file type and permissions, or 0."""

    number: int
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    mode: int
    start: int

    @property
    def name(self) -> str:
        """The decoded name."""
        try:
            return self.raw_name.decode("utf-8" if self.flags & _UTF8 else "cp437")
        except UnicodeDecodeError as error:
            raise BadArchive(
                f"The name of member {self.number} cannot be decoded; it must be UTF-8."
            ) from error

    @property
    def has_end_mark(self) -> bool:
        """Whether LZMA data says where it ends."""
        return bool(self.flags & 2)


def read_directory(file: IO[bytes], ledger: Ledger) -> list[tuple[Entry, int]]:
    """All entries in the directory's order, each with where its data starts.

    Every byte before the directory belongs to exactly one member: none overlap, nothing hides between them.
    """
    count, size, offset = _end_record(file)
    ledger.expect_members(count)
    entries = []
    file.seek(offset)
    for number in range(1, count + 1):
        entries.append(_entry(file, number, ledger.limits.path_length))
        if file.tell() > offset + size or entries[-1].start >= offset:
            raise BadArchive(_DAMAGED)
    if file.tell() != offset + size:
        raise BadArchive("The zip's directory holds more members than it counts; pack and send it again.")
    found = [(entry, _data_start(file, entry)) for entry in entries]
    _check_spans(found, offset)
    return found


def _end_record(file: IO[bytes]) -> tuple[int, int, int]:
    """How many members, and the directory's size and place."""
    length = file.seek(0, os.SEEK_END)
    start = max(0, length - _END.size - _WIDE_16)
    file.seek(start)
    tail = file.read()
    at = len(tail) - _END.size
    while (at := tail.rfind(b"PK\5\6", 0, max(0, at + 4))) >= 0:
        _, disk, first_disk, here, count, size, offset, comment = _END.unpack_from(tail, at)
        if at + _END.size + comment == len(tail):
            break
        at -= 1
    else:
        raise BadArchive(_WITHOUT_END)
    if disk not in (0, _WIDE_16) or first_disk not in (0, _WIDE_16):
        raise UnsupportedArchive("This is one part of a split zip; send one whole zip.")
    end = start + at
    file.seek(max(0, end - _LOCATOR_64.size))
    locator = file.read(_LOCATOR_64.size)
    if locator.startswith(b"PK\6\7"):
        count, size, offset, end = _end_record_64(file, locator, (here, count, size, offset))
    elif here != count:
        raise BadArchive(_DAMAGED)
    if offset + size != end:
        raise BadArchive(_DAMAGED)
    return count, size, offset


def _end_record_64(
    file: IO[bytes], locator: bytes, narrow: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """The wide values, which the narrow ones repeat or leave open; and where the record lies."""
    _, _, at, disks = _LOCATOR_64.unpack(locator)
    locator_at = file.tell() - _LOCATOR_64.size
    if at > locator_at - _END_64.size:
        raise BadArchive(_DAMAGED)
    file.seek(at)
    magic, length, _, _, disk, _, *wide = _END_64.unpack(_exactly(file, _END_64.size))
    if magic != b"PK\6\6" or at + 12 + length != locator_at:
        raise BadArchive(_DAMAGED)
    if disk or disks > 1:
        raise UnsupportedArchive("This is one part of a split zip; send one whole zip.")
    open_marks = (_WIDE_16, _WIDE_16, _WIDE, _WIDE)
    if wide[0] != wide[1] or any(
        short not in (long, mark) for short, long, mark in zip(narrow, wide, open_marks, strict=True)
    ):
        raise BadArchive("The zip's 64-bit directory record contradicts the other; pack and send it again.")
    return wide[1], wide[2], wide[3], at


def _entry(file: IO[bytes], number: int, longest_name: int) -> Entry:
    fields = _ENTRY.unpack(_exactly(file, _ENTRY.size))
    magic, _, _, flags, method, _, _, crc, packed, size = fields[:10]
    name_length, extra_length, comment_length, disk, _, attributes, start = fields[10:]
    if magic != b"PK\1\2":
        raise BadArchive(_DAMAGED)
    if name_length > 4 * longest_name:
        raise BadArchive(f"The path of member {number} is longer than {longest_name} characters; shorten it.")
    name = _exactly(file, name_length)
    extra = _exactly(file, extra_length)
    file.seek(comment_length, os.SEEK_CUR)
    if flags & (_ENCRYPTED | _STRONG | _MASKED) or method == 99:
        raise UnsupportedArchive(f"Member {number} is encrypted; send the zip without a password.")
    if flags & _PATCH:
        raise UnsupportedArchive(f"Member {number} is a patch of another file; pack whole files.")
    if disk not in (0, _WIDE_16):
        raise UnsupportedArchive("This is one part of a split zip; send one whole zip.")
    size, packed, start = _widened(extra, (size, packed, start), number)
    return Entry(number, name, flags, method, crc, packed, size, attributes >> 16, start)


def _widened(extra: bytes, narrow: tuple[int, ...], number: int) -> tuple[int, ...]:
    """Sizes and place; those that 32 bits could not hold are in an extra field, in this order."""
    if _WIDE not in narrow:
        return narrow
    wide = _extra_field(extra, 1)
    needed = 8 * narrow.count(_WIDE)
    if wide is None or len(wide) < needed:
        raise BadArchive(f"Member {number} lacks its 64-bit sizes; pack and send the zip again.")
    values = iter([int.from_bytes(wide[at : at + 8], "little") for at in range(0, needed, 8)])
    return tuple(next(values) if value == _WIDE else value for value in narrow)


def _extra_field(extra: bytes, wanted: int) -> bytes | None:
    at = 0
    while at + 4 <= len(extra):
        kind, length = (int.from_bytes(extra[i : i + 2], "little") for i in (at, at + 2))
        if kind == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return None


def _data_start(file: IO[bytes], entry: Entry) -> int:
    """Where a member's data starts, whose local header agrees with the directory."""
    file.seek(entry.start)
    magic, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(
        _exactly(file, _LOCAL.size)
    )
    name, extra = _exactly(file, name_length), _exactly(file, extra_length)
    agrees = (magic, method, name) == (b"PK\3\4", entry.method, entry.raw_name)
    if agrees and not flags & _DESCRIPTOR_FOLLOWS:
        size, packed = _widened(extra, (size, packed), entry.number)
        agrees = (crc, packed, size) == (entry.crc, entry.packed, entry.size)
    if not agrees or (flags ^ entry.flags) & (_ENCRYPTED | _DESCRIPTOR_FOLLOWS):
        raise BadArchive(
            f"The zip's directory and the header of member {entry.number} disagree; pack it anew."
        )
    return file.tell()


def _check_spans(found: list[tuple[Entry, int]], directory: int) -> None:
    spans = sorted(
        ((entry.start, data + entry.packed, entry) for entry, data in found), key=lambda span: span[:2]
    )
    first, *following_starts = *(start for start, _, _ in spans), directory
    if first != 0:
        raise BadArchive("Other bytes precede the zip's first member; send it as its tool wrote it.")
    for (_, end, entry), following in zip(spans, following_starts, strict=True):
        if end > following:
            raise BadArchive(f"Member {entry.number} overlaps another part of the zip; pack it anew.")
        if following - end not in (_DESCRIPTORS if entry.flags & _DESCRIPTOR_FOLLOWS else (0,)):
            raise BadArchive(f"Bytes that the zip's directory does not name follow member {entry.number}.")


def _exactly(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise BadArchive(_DAMAGED)
    return data
