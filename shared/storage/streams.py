"""Streams in blocks."""

import sys
from collections.abc import Iterator
from typing import IO

BLOCK = 1 << 20


def blocks(stream: IO[bytes], length: int | None = None) -> Iterator[bytes]:
    """A stream in blocks, or its next `length` bytes; closed at the end or when the reader goes away, also when it never
    came: a HEAD, or a client that was gone first."""
    reading = _blocks(stream, sys.maxsize if length is None else length)
    next(reading)  # a generator that was not begun would leave the stream open
    return reading


def _blocks(stream: IO[bytes], rest: int) -> Iterator[bytes]:
    with stream:
        yield b""
        while block := stream.read(min(BLOCK, rest)):
            rest -= len(block)
            yield block
