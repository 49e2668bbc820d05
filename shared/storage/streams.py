"""Streams in blocks."""

import sys
from collections.abc import Iterator
from typing import IO

BLOCK = 1 << 20


def blocks(stream: IO[bytes], length: int | None = None) -> Iterator[bytes]:
    """A stream in blocks, or its next `length` bytes; closed at the end or when the reader goes away."""
    with stream:
        rest = sys.maxsize if length is None else length
        while block := stream.read(min(BLOCK, rest)):
            rest -= len(block)
            yield block
