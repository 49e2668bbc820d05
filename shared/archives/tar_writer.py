"""An uncompressed tar that is written file by file, each at a place that is told: others read ranges of it."""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = tarfile.BLOCKSIZE


@dataclass
class Placed:
    """Where a file lies in the tar; known in full once it is written."""

    offset: int
    size: int = 0


class TarWriter:
    """Writes to a file that can be sought in. Members have no owner, no date, and the names that they are given."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    @contextmanager
    def member(self, name: str) -> Iterator[Placed]:
        """What the block writes to the file becomes a member; nothing of it stays where the block raises."""
        start = self._file.tell()
        placed = Placed(start + BLOCK)
        self._file.write(bytes(BLOCK))
        try:
            yield placed
        except BaseException:
            self._file.seek(start)
            self._file.truncate()
            raise
        placed.size = self._file.tell() - placed.offset
        self._file.write(bytes(-placed.size % BLOCK))
        end = self._file.tell()
        self._file.seek(start)
        self._file.write(_header(name, placed.size))
        self._file.seek(end)

    def finish(self) -> None:
        """Write the end mark."""
        self._file.write(bytes(2 * BLOCK))


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")
