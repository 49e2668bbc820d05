"""The numbered files that unpacking writes: all of them stay, or none."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from shared.errors import Unavailable

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Outbox:
    """Writes files 000001, 000002, … into a folder; left by an error, it removes what it wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: set[Path] = set()
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for path in self._written:
                path.unlink(missing_ok=True)

    @contextmanager
    def file(self) -> Iterator[IO[bytes]]:
        """The next file, open for writing; its `name` is its path. Raises FileExistsError: none is written over."""
        self._number += 1
        path = self.folder / f"{self._number:06d}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with _room():
            handle = os.open(path, flags, 0o600)
            self._written.add(path)
            with open(path, "wb", opener=lambda *_: handle) as file:
                yield file

    def write(self, pieces: Iterable[bytes | memoryview]) -> Path:
        """A file of the pieces."""
        with self.file() as file:
            for piece in pieces:
                file.write(piece)
        return Path(file.name)

    def remove(self, path: Path) -> None:
        """Take a file back, an archive whose members took its place."""
        path.unlink()
        self._written.remove(path)


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise Unavailable("There is no room left to unpack the archive; try again later.") from error
        raise
