"""Whose fault it is: the files' (the study is rejected), nobody's (it is held), or ours (it is tried again)."""

import errno
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from shared.db.models import StudyFile
from shared.errors import Invalid, TooLarge, Unavailable, UnsupportedImage
from shared.incoming import OURS
from shared.storage.port import ObjectNotFound, Storage

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


class NotWanted(Exception):
    """The study was deleted meanwhile, or somebody else has taken it in."""


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


def blame_removal(storage: Storage, files: Sequence[StudyFile]) -> None:
    """Raise UnusableFiles where what is missing of the files lay in the drop-box, from which its owner took it.

    Nobody but us removes what we stored ourselves; that, or a store without its buckets, is no fault of the sender's.
    """
    storage.check()
    missing = [file for file in files if not _is_there(storage, file)]
    if missing and not any(file.key.partition("/")[0] in OURS for file in missing):
        raise UnusableFiles(
            f"{len(missing):,} of {len(files):,} files were removed from the drop-box before the study was taken in; "
            "put all of them there again"
        )


def _is_there(storage: Storage, file: StudyFile) -> bool:
    try:
        storage.head(file.bucket, file.key)
    except ObjectNotFound:
        return False
    return True
