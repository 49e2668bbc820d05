"""Decompression with a bound on what each step puts out, whatever the stream claims."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol, cast

from isal import igzip_lib

from shared.archives.errors import BadArchive, UnsupportedArchive
from shared.archives.formats import ArchiveFormat, archive_format

INPUT_BYTES = 128 * 1024
OUTPUT_BYTES = 256 * 1024
XZ_MEMORY = 128 * 2**20
"""Most memory that a stream may ask its decoder to keep; `xz -9` asks for 65 MiB."""
_ISAL_ERROR = cast(type[Exception], igzip_lib.IsalError)
_DEFLATE = 8
_CHECKSUM, _EXTRA, _NAME, _COMMENT, _RESERVED = 2, 4, 8, 16, 0xE0
_MOST_HEADER_BYTES = 2**20  # gzip sets no limit to a name
_FEWEST_BYTES_PER_STREAM = 1024  # pigz, bgzip and pbzip2 write long streams; a flood of empty ones costs time


class Decoder(Protocol):
    """What `bz2` and `lzma` offer."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes: ...


class Gunzip:
    """gzip by ISA-L, which inflates twice as fast as zlib, with the interface of its siblings.

    The header is read here: ISA-L takes a header's own checksum, and a header that comes in pieces, for damage.
    """

    def __init__(self) -> None:
        self._header = b""
        self._body: Decoder | None = None

    @property
    def eof(self) -> bool:
        return self._body is not None and self._body.eof

    @property
    def needs_input(self) -> bool:
        return self._body is None or self._body.needs_input

    @property
    def unused_data(self) -> bytes:
        return self._body.unused_data if self._body else b""

    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes:
        if self._body is None:
            self._header += data
            end = _header_end(self._header)
            if end is None:
                return b""
            data, self._header = self._header[end:], b""
            self._body = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP_NO_HDR_VER)
        return self._body.decompress(data, max_length)


def inflate() -> Decoder:
    """Deflate without any header, as in a zip."""
    decoder: Decoder = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_DEFLATE)
    return decoder


def _header_end(header: bytes) -> int | None:
    """Where the header of a gzip stream (RFC 1952) ends; None where more of it is to come. Raises ValueError."""
    if len(header) < 10:
        return None
    flags, end = header[3], 10
    if header[2] != _DEFLATE or flags & _RESERVED or len(header) > _MOST_HEADER_BYTES:
        raise ValueError("no header of gzip")
    if flags & _EXTRA:
        end += 2 + int.from_bytes(header[end : end + 2], "little")
    for text in (_NAME, _COMMENT):
        if flags & text:
            end = header.find(b"\0", end) + 1
            if not end:
                return None
    if flags & _CHECKSUM:
        end += 2
        if len(header) >= end and int.from_bytes(header[end - 2 : end], "little") != _crc16(
            header[: end - 2]
        ):
            raise ValueError("a header that is damaged")
    return end if len(header) >= end else None


def _crc16(header: bytes) -> int:
    return zlib.crc32(header) & 0xFFFF


_DECODERS: dict[ArchiveFormat, Callable[[], Decoder]] = {
    ArchiveFormat.GZIP: Gunzip,
    ArchiveFormat.BZIP2: bz2.BZ2Decompressor,
    ArchiveFormat.XZ: lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY),
}


def step(decoder: Decoder, data: bytes, what: str) -> bytes:
    """At most OUTPUT_BYTES more of what the decoder has."""
    try:
        return decoder.decompress(data, OUTPUT_BYTES)
    except (_ISAL_ERROR, lzma.LZMAError, OSError, ValueError, EOFError) as error:
        if "Memory usage limit" in str(error):
            raise UnsupportedArchive(
                f"Unpacking {what} takes over {XZ_MEMORY // 2**20} MiB of memory; compress with `xz -9` or less."
            ) from error
        raise BadArchive(f"The compressed data of {what} is damaged; pack and send it again.") from error


def decompressed(file: IO[bytes], kind: ArchiveFormat) -> Iterator[bytes]:
    """What a gzip, bzip2 or xz file holds, its streams joined as the tools do, checksums verified."""
    make, what, streams = _DECODERS[kind], f"the {kind} file", 1
    decoder = make()
    while True:
        data = b""
        if decoder.eof:
            data = _next_stream(decoder.unused_data, file, kind)
            if not data:
                return
            streams += 1
            _check_streams(streams, file.tell(), kind)
            decoder = make()
        elif decoder.needs_input:
            data = file.read(INPUT_BYTES)
            if not data:
                raise BadArchive(f"The {kind} file ends early; send it whole.")
        if output := step(decoder, data, what):
            yield output


def decompressed_head(source: Path, kind: ArchiveFormat, count: int) -> bytes:
    """The first `count` bytes of what a compressed file holds."""
    head = b""
    with source.open("rb") as file:
        for block in decompressed(file, kind):
            head += block[:count]
            if len(head) >= count:
                break
    return head[:count]


def _next_stream(rest: bytes, file: IO[bytes], kind: ArchiveFormat) -> bytes:
    """The beginning of a further stream; b"" at the end of the file, behind the zeros that gzip and xz allow."""
    padding = b"" if kind is ArchiveFormat.BZIP2 else b"\0"
    while not (rest := rest.lstrip(padding) if padding else rest):
        rest = file.read(INPUT_BYTES)
        if not rest:
            return b""
    if len(rest) < 10:
        rest += file.read(INPUT_BYTES)
    if archive_format(rest[:10]) is not kind:
        raise BadArchive(f"Other bytes follow the end of the {kind} file; send it as its tool wrote it.")
    return rest


def _check_streams(streams: int, read: int, kind: ArchiveFormat) -> None:
    if streams > 1000 + read // _FEWEST_BYTES_PER_STREAM:
        raise BadArchive(f"The {kind} file is cut into very many small streams; compress it in one piece.")
