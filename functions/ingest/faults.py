"""Whose fault it is: the files' (the study is rejected), nobody's (it is held), or ours (it is tried again)."""

import errno
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from shared.errors import Invalid, TooLarge, Unavailable, UnsupportedImage

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
LEAST_ROOM = 64 * 2**20
"""Free bytes under which a fault is put down to the disk: a program that could not write may say anything."""


class UnusableFiles(Invalid):
    """The files themselves are at fault: the study is rejected. No other error says so."""


class Held(Exception):
    """Nothing but images that a person has to look at first. codes: why."""

    def __init__(self, codes: Sequence[str], message: str) -> None:
        super().__init__(message)
        self.codes = list(codes)
        self.message = message


@contextmanager
def fault_of(label: str | None = None) -> Iterator[None]:
    """Whatever the block finds wrong is the files' fault; said of the file `label`, never by its name."""
    try:
        yield
    except UnusableFiles:
        raise
    except (Invalid, TooLarge, UnsupportedImage) as error:
        raise UnusableFiles(f"{label}: {error.detail}" if label else error.detail) from error


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """A full disk is no fault of the files: raises Unavailable in its place."""
    try:
        yield
    except UnusableFiles as error:
        if shutil.disk_usage(folder).free < LEAST_ROOM:
            raise Unavailable(
                "There is hardly any room left for temporary files; try again later."
            ) from error
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise Unavailable("There is no room left for temporary files; try again later.") from error
        raise
