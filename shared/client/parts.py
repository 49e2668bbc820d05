"""Which parts of an upload are sent, and in which order."""

from collections import deque
from dataclasses import dataclass

from shared.client.results import Upload

MOST_AT_ONCE = 16
"""Parts whose URLs one worker asks for at once: few, since URLs expire."""


@dataclass(frozen=True)
class Part:
    """A piece of the file. Numbers begin at 1."""

    number: int
    offset: int
    size: int


def missing_parts(upload: Upload) -> list[Part]:
    """The parts that the store did not confirm, in the file's order."""
    parts = (
        Part(number, offset, min(upload.part_bytes, upload.size - offset))
        for number, offset in enumerate(range(0, upload.size, upload.part_bytes), 1)
    )
    return [part for part in parts if upload.received.get(part.number) != part.size]


class Plan:
    """The parts that nobody took yet. Several workers take from it."""

    def __init__(self, parts: list[Part], workers: int, size: int) -> None:
        """size: of the file, of which the parts are what is missing."""
        self._waiting = deque(parts)
        self._workers = workers
        self._size = size

    def take(self) -> list[Part]:
        """The next ones for a worker; none when all were taken. Fewer towards the end, so that all end together."""
        count = min(MOST_AT_ONCE, max(1, len(self._waiting) // (2 * self._workers)))
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    @property
    def reached(self) -> int:
        """Offset of the first part that nobody took; the file's end where all were taken, or nothing was missing."""
        return self._waiting[0].offset if self._waiting else self._size
