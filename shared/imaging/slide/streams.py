"""What compressed pixels say beside pixels: comments and application data of JPEG and JPEG 2000, and ICC profiles."""

import struct
from collections.abc import Iterator

from shared.formats.source import Source

JPEG, JPEG_2000 = {7}, {33003, 33004, 33005, 34712}
"""TIFF compression codes."""
_HEAD = 2048
_SOI, _SOS, _EOI, _COM = b"\xff\xd8", 0xDA, 0xD9, 0xFE
_SOC, _SOT, _J2K_COM = b"\xff\x4f", 0x90, 0x64
_NEEDED = {0xE0: (b"JFIF\x00", 12), 0xEE: (b"Adobe", 12)}
"""Application data that decoders need: how it begins, and how many bytes of it."""
_PROFILE_TAGS = frozenset(
    b"wtpt bkpt rXYZ gXYZ bXYZ rTRC gTRC bTRC kTRC chad chrm lumi meas gamt "
    b"A2B0 A2B1 A2B2 B2A0 B2A1 B2A2 D2B0 D2B1 D2B2 D2B3 B2D0 B2D1 B2D2 B2D3".split()
)
_PROFILE_TYPES = frozenset(b"curv para sf32 chrm meas mft1 mft2 mpet".split()) | {b"XYZ ", b"mAB ", b"mBA "}
_MOST_PROFILE_TAGS = 100


def words_in(source: Source, start: int, length: int, compression: int) -> Iterator[tuple[int, int]]:
    """The pieces (place, bytes) of one compressed tile or strip that hold words and not pixels."""
    if compression not in JPEG | JPEG_2000:
        return
    head, at, of_file = source.read(start, min(length, _HEAD)), 2, 0
    begins = head[:2]
    if begins not in (_SOI, _SOC):
        return
    while at + 4 <= length:
        if at - of_file + 16 > len(head):
            of_file, head = at, source.read(start + at, min(length - at, _HEAD))
        segment = head[at - of_file : at - of_file + 16]
        if len(segment) < 4 or segment[0] != 0xFF or segment[1] in _ENDS[begins]:
            return
        size = int.from_bytes(segment[2:4], "big")
        kept = _kept(begins, segment[1], segment[4:])
        if size - 2 > kept:
            yield start + at + 4 + kept, max(0, min(size - 2 - kept, length - at - 4 - kept))
        at += 2 + max(size, 2)


_ENDS = {_SOI: (_SOS, _EOI), _SOC: (_SOT,)}


def _kept(begins: bytes, marker: int, data: bytes) -> int:
    """How many bytes of a segment stay."""
    if begins == _SOC:
        return 2 if marker == _J2K_COM else 2**16
    if marker == _COM:
        return 0
    if 0xE0 <= marker <= 0xEF:
        start, count = _NEEDED.get(marker, (b"", 0))
        return count if data.startswith(start) else 0
    return 2**16


def plain_tables(tables: bytes) -> bytes:
    """A TIFF's JPEG tables, without words, as long as before."""
    plain = bytearray(tables)
    for place, count in words_in(_Bytes(tables), 0, len(tables), 7):
        plain[place : place + count] = bytes(count)
    return bytes(plain)


def plain_profile(profile: bytes) -> bytes | None:
    """An ICC profile with the numbers that colour is computed from, and without names, dates and texts (ICC.1:2022
    §7); None where it is damaged."""
    if len(profile) < 132 or profile[36:40] != b"acsp":
        return None
    count = struct.unpack_from(">I", profile, 128)[0]
    if count > _MOST_PROFILE_TAGS or len(profile) < 132 + 12 * count:
        return None
    table, data, placed = b"", b"", {}
    rows = [struct.unpack_from(">4sII", profile, 132 + 12 * number) for number in range(count)]
    kept = [row for row in rows if row[0] in _PROFILE_TAGS and profile[row[1] : row[1] + 4] in _PROFILE_TYPES]
    for name, place, size in kept:
        if place + size > len(profile):
            return None
        if (place, size) not in placed:
            placed[place, size] = 132 + 12 * len(kept) + len(data)
            data += profile[place : place + size] + bytes(-size % 4)
        table += struct.pack(">4sII", name, placed[place, size], size)
    body = struct.pack(">I", len(kept)) + table + data
    return struct.pack(">I", 128 + len(body)) + _profile_header(profile) + body


def _profile_header(profile: bytes) -> bytes:
    """The header after its size: without preferred module, date, platform, maker, model, creator and checksum."""
    kept = [(8, 24), (36, 40), (44, 48), (56, 80)]
    header = bytearray(128)
    for start, end in kept:
        header[start:end] = profile[start:end]
    return bytes(header[4:])


class _Bytes:
    """Bytes in memory as a Source."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)

    def read(self, offset: int, count: int) -> bytes:
        return self.data[offset : offset + count]
