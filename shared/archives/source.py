"""Bytes that are read once, from front to back."""

from collections.abc import Iterator

from shared.archives.errors import BadArchive
from shared.archives.limits import ArchiveLimits

TRUNCATED = "The archive ends early; send it whole."


class Source:
    """A stream of blocks of which no more than one is held."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._held = memoryview(b"")

    def peek(self, count: int) -> bytes:
        """The next bytes, fewer at the end, left to be read."""
        while len(self._held) < count and (block := next(self._blocks, b"")):
            self._held = memoryview(bytes(self._held) + block)
        return bytes(self._held[:count])

    def take(self, count: int) -> bytes:
        """Exactly so many bytes; for headers."""
        return b"".join(self.pieces(count))

    def pieces(self, count: int) -> Iterator[memoryview]:
        """Exactly so many bytes, in pieces of a block at most."""
        while count:
            if not self._held:
                self._held = memoryview(next(self._blocks, b""))
                if not self._held:
                    raise BadArchive(TRUNCATED)
            piece = self._held[:count]
            self._held = self._held[len(piece) :]
            count -= len(piece)
            yield piece

    def skip(self, count: int) -> None:
        """Pass over so many bytes."""
        for _ in self.pieces(count):
            pass

    def rest(self) -> Iterator[memoryview]:
        """All that is left."""
        yield self._held
        self._held = memoryview(b"")
        for block in self._blocks:
            yield memoryview(block)


def within_ratio(blocks: Iterator[bytes], packed: int, limits: ArchiveLimits) -> Iterator[bytes]:
    """The blocks, as long as they are not absurdly many for a file of `packed` bytes."""
    unpacked = 0
    for block in blocks:
        unpacked += len(block)
        limits.check_ratio(unpacked, packed, "The compressed file")
        yield block
