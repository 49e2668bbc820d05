"""Streams in blocks."""

from collections.abc import Iterator
from typing import IO

BLOCK = 1 << 20


def blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """A stream in blocks, closed at its end or when the reader goes away."""
    with stream:
        while block := stream.read(BLOCK):
            yield block
