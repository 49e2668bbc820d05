"""Bounded reads of a file that is not trusted: a piece at a place, never more than asked for."""

from pathlib import Path
from typing import IO, Protocol

HEAD_BYTES = 64 * 2**10
"""What `identify_head` looks at: the least that holds every header that says what a file is."""


class BeyondHead(Exception):
    """The answer lies further on than the bytes that have arrived."""


class Source(Protocol):
    """Bytes of known number."""

    size: int

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; fewer only where the file ends. BeyondHead: not there yet."""
        ...


class HeadSource:
    """The first bytes of a file whose rest has not arrived."""

    def __init__(self, head: bytes, size: int) -> None:
        self.head, self.size = head, max(size, len(head))

    def read(self, offset: int, count: int) -> bytes:
        wanted = max(0, min(count, self.size - offset))
        if offset + wanted > len(self.head):
            raise BeyondHead
        return self.head[offset : offset + wanted]


class FileSource:
    """A whole file."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.file, self.size = file, path.stat().st_size

    def read(self, offset: int, count: int) -> bytes:
        if offset < 0 or offset >= self.size:
            return b""
        self.file.seek(offset)
        return self.file.read(min(count, self.size - offset))
