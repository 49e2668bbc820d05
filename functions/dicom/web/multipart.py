"""multipart/related (RFC 2387): written as a stream, and read from one, with nothing believed of its length."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from fastapi.responses import StreamingResponse
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from functions.dicom.files import unnamed_file
from shared.errors import BadRequest, UnsupportedImage

MOST_PARTS = 100_000
MOST_PREAMBLE = 64 << 10
NO_PARTS = (
    "the body is not parts between the boundary that its Content-Type names, each with up to 8 short headers"
)


@dataclass(frozen=True)
class Part:
    """One part that is to be sent. size: None where it is not known before."""

    media_type: str
    blocks: Iterable[bytes]
    size: int | None = None
    location: str | None = None


class MultipartResponse(StreamingResponse):
    """Parts one after another; with Content-Length where all sizes are known."""

    def __init__(
        self, parts: Iterable[Part], type: str, sizes: Sequence[tuple[str, str | None, int]] | None
    ) -> None:
        boundary = uuid4().hex
        super().__init__(_written(parts, boundary), media_type=None)
        self.headers["Content-Type"] = f'multipart/related; type="{type}"; boundary={boundary}'
        if sizes is not None:
            self.headers["Content-Length"] = str(_length(sizes, boundary))


def _head(boundary: str, media_type: str, location: str | None) -> bytes:
    where = f"Content-Location: {location}\r\n" if location else ""
    return f"\r\n--{boundary}\r\nContent-Type: {media_type}\r\n{where}\r\n".encode()


def _written(parts: Iterable[Part], boundary: str) -> Iterator[bytes]:
    for part in parts:
        waiting = _head(boundary, part.media_type, part.location)
        for block in part.blocks:
            yield waiting + block if waiting else block
            waiting = b""
        if waiting:
            yield waiting
    yield f"\r\n--{boundary}--\r\n".encode()


def _length(sizes: Sequence[tuple[str, str | None, int]], boundary: str) -> int:
    heads = sum(len(_head(boundary, media_type, location)) + size for media_type, location, size in sizes)
    return heads + len(f"\r\n--{boundary}--\r\n")


def boundary_of(content_type: str, type: str) -> bytes:
    """The boundary of a body whose parts are of `type`. Raises UnsupportedImage for any other body."""
    name, options = parse_options_header(content_type)
    boundary, of_parts = options.get(b"boundary", b""), options.get(b"type", b"").decode("latin-1").lower()
    if name != b"multipart/related" or of_parts not in ("", type):
        raise UnsupportedImage(f'send the body as multipart/related; type="{type}"; boundary=…')
    if not re.fullmatch(rb"[0-9A-Za-z'()+_,./:=? -]{1,70}", boundary) or boundary.endswith(b" "):
        raise BadRequest("the Content-Type names no boundary as RFC 2046 writes it")
    return boundary


class PartReader:
    """Reads a body block by block; each part goes to a file without a name, and then to `done`, which owns it.

    done: called with the part's Content-Type and its file; the file is None where the part is longer than `most`.
    """

    def __init__(
        self, boundary: bytes, most: int, folder: Path | None, done: Callable[[str, IO[bytes] | None], None]
    ) -> None:
        self.parts = 0
        self._most, self._folder, self._done = most, folder, done
        self._file: IO[bytes] | None = None
        self._size = 0
        self._header, self._value, self._media_type = b"", b"", b""
        self._is_complete = False
        self._delimiter = b"--" + boundary
        self._preamble: bytes | None = b""
        callbacks: Any = {  # a TypedDict that the library does not export
            "on_part_begin": self._begin,
            "on_header_field": self._name,
            "on_header_value": self._content,
            "on_header_end": self._end_header,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._end_all,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, block: bytes) -> None:
        """Take in a block. Raises BadRequest where the parts cannot be told apart, OSError for want of room."""
        block = self._without_preamble(block)
        if not block:
            return
        try:
            self._parser.write(block)
        except FormParserError:
            raise BadRequest(NO_PARTS) from None

    def finish(self) -> None:
        """Raise BadRequest unless the body came to its end."""
        if self._preamble:
            raise BadRequest(NO_PARTS)
        if not self._is_complete:
            raise BadRequest("the body ends before its last boundary; send it again")

    def close(self) -> None:
        """Drop a part that did not come whole."""
        if self._file is not None:
            self._file.close()

    def _without_preamble(self, block: bytes) -> bytes:
        """The block from the first boundary on: what stands before it is for people (RFC 2046 §5.1.1)."""
        if self._preamble is None:
            return block
        before = self._preamble + block
        start = 0 if before.startswith(self._delimiter) else before.find(b"\r\n" + self._delimiter)
        if not 0 <= start <= MOST_PREAMBLE:
            if len(before) > MOST_PREAMBLE:
                raise BadRequest(NO_PARTS)
            self._preamble = before
            return b""
        self._preamble = None
        return before[start:].removeprefix(b"\r\n")

    def _begin(self) -> None:
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise BadRequest(f"a request has at most {MOST_PARTS} parts; send the rest in another")
        self._file, self._size = unnamed_file(self._folder), 0
        self._header, self._value, self._media_type = b"", b"", b""

    def _name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _content(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-type":
            self._media_type = self._value
        self._header, self._value = b"", b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None
        self._size += end - start
        if self._size <= self._most:
            self._file.write(memoryview(data)[start:end])
        else:
            self._file.truncate(0)

    def _end(self) -> None:
        file, self._file = self._file, None
        assert file is not None
        name = parse_options_header(self._media_type)[0].decode("latin-1")
        with file:
            self._done(name, file if self._size <= self._most else None)

    def _end_all(self) -> None:
        self._is_complete = True
