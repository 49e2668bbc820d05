"""Sparse members of a tar: GNU's own form and pax 1.0, which macOS writes unasked for files with holes."""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from shared.archives.errors import BadArchive, UnsupportedArchive
from shared.archives.source import Source
from shared.archives.tar_headers import BLOCK, TarHeader, number_of

_MOST_SEGMENTS = 20_000


@dataclass(frozen=True)
class SparseMap:
    """Where the stored bytes belong: (offset, length) in order. size: of the whole file. stored: bytes to come."""

    segments: list[tuple[int, int]]
    size: int
    stored: int

    def write(self, source: Source, file: IO[bytes]) -> None:
        """Put the stored bytes where they belong, holes between them."""
        for offset, length in self.segments:
            file.seek(offset)
            for piece in source.pieces(length):
                file.write(piece)
        file.truncate(self.size)


def is_sparse(header: TarHeader) -> bool:
    """Whether the member is stored without its holes."""
    return header.info.type == tarfile.GNUTYPE_SPARSE or any(
        key.startswith("GNU.sparse.") for key in header.records
    )


def read_sparse_map(source: Source, header: TarHeader, number: int) -> SparseMap:
    """The map that stands before the member's data."""
    if header.info.type == tarfile.GNUTYPE_SPARSE:
        size = _field(header.block[483:495], number)
        segments, stored = list(_bounded(_gnu_segments(source, header.block, number), number)), header.stored
    else:
        records = header.records
        if records.get("GNU.sparse.major") != "1" or "GNU.sparse.realsize" not in records:
            raise UnsupportedArchive(
                f"Member {number} is stored in an old sparse form; pack it without --sparse."
            )
        size = number_of(records["GNU.sparse.realsize"], number)
        segments, taken = _pax_segments(source, header.stored, number)
        stored = header.stored - taken
    _check(segments, size, stored, number)
    return SparseMap(segments, size, stored)


def _check(segments: list[tuple[int, int]], size: int, stored: int, number: int) -> None:
    ends = [0, *(offset + length for offset, length in segments)]
    starts = [*(offset for offset, _ in segments), size]
    if any(start < end for end, start in zip(ends, starts, strict=True)) or stored != sum(
        n for _, n in segments
    ):
        raise BadArchive(f"The sparse map of member {number} contradicts its size; pack it without --sparse.")


def _bounded(segments: Iterator[tuple[int, int]], number: int) -> Iterator[tuple[int, int]]:
    for count, segment in enumerate(segments):
        if count == _MOST_SEGMENTS:
            raise BadArchive(f"Member {number} has very many sparse segments; pack it without --sparse.")
        yield segment


def _gnu_segments(source: Source, header: bytes, number: int) -> Iterator[tuple[int, int]]:
    """Four pairs in the header, 21 in each block that follows as long as a flag says so; empty pairs fill up."""
    table, more = header[386:482], header[482]
    while True:
        for start in range(0, len(table), 24):
            if table[start] != 0:
                yield (
                    _field(table[start : start + 12], number),
                    _field(table[start + 12 : start + 24], number),
                )
        if not more:
            return
        block = source.take(BLOCK)
        if block[0] == 0:
            raise BadArchive(f"The sparse map of member {number} is damaged; pack it without --sparse.")
        table, more = block[:504], block[504]


def _pax_segments(source: Source, stored: int, number: int) -> tuple[list[tuple[int, int]], int]:
    """Decimal lines before the data, padded to whole blocks: how many segments, then offset and length of each."""
    taken, rest = 0, b""

    def numbers() -> Iterator[int]:
        nonlocal taken, rest
        while True:
            while b"\n" not in rest:
                taken += BLOCK
                if taken > stored or len(rest) > BLOCK:
                    raise BadArchive(
                        f"The sparse map of member {number} is damaged; pack it without --sparse."
                    )
                rest += source.take(BLOCK)
            line, rest = rest.split(b"\n", 1)
            yield number_of(line.decode("latin-1"), number)

    values = numbers()
    pairs = ((next(values), next(values)) for _ in range(next(values)))
    return list(_bounded(pairs, number)), taken


def _field(raw: bytes, number: int) -> int:
    """A number as headers hold it: octal, or binary when too large for that."""
    digits = raw.strip(b" \0")
    if raw[0] == 0x80:
        return int.from_bytes(raw[1:])
    if not re.fullmatch(b"[0-7]*", digits):
        raise BadArchive(f"The sparse map of member {number} is damaged; pack it without --sparse.")
    return int(digits or b"0", 8)
