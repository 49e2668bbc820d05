"""What the folder store asks of a file system: errors by name, one lock, scratch files that never show.

What is made here is for the owner alone, whatever the umask: objects are patients' images.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO

from shared.errors import Unavailable

ABANDONED_AFTER = timedelta(days=1)
WRITE_BYTES = 256 * 1024
"""Most bytes of one write. A larger one makes ext4 take larger pages, which cost two to three times as much CPU."""
GONE = "gone-"
"""Begins the name of a folder that is being taken apart."""
FOLDER_MODE = 0o700
FILE_MODE = 0o600
private = partial(os.open, mode=FILE_MODE)
"""The `opener` of files that only their owner may read."""


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn what the operating system says into Unavailable. The text has no path: paths may hold names."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "unknown reason"
        raise Unavailable(f"The object store cannot be used: {reason}.") from error


def make_folder(path: Path) -> None:
    """A folder for its owner alone, unless it is there already; what lies above it gets the umask's mode."""
    path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)


class Lock:
    """A lock on one file, between threads and between processes; the system drops it when a holder dies."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Alone."""
        with open(self._path, "ab", opener=private) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Beside other readers, while nobody writes."""
        with open(self._path, "ab", opener=private) as handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
            yield


def lock_at_once(handle: IO[bytes]) -> bool:
    """Take the lock on an open file, until it is closed; False where somebody else has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Scratch:
    """Temporary files on the objects' own file system, so that renaming publishes them at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_folder(folder)

    @contextmanager
    def path(self) -> Iterator[Path]:
        """A new name; what is made there is removed at the end unless it was renamed."""
        path = self._folder / uuid.uuid4().hex
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def file(self) -> Iterator[IO[bytes]]:
        """A new file open for writing; it is removed at the end unless it was renamed."""
        with self.path() as path:
            with disk_errors():
                handle = _create(path)
            with handle:
                yield handle

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A new folder, removed at the end with all that is in it."""
        path = self._folder / uuid.uuid4().hex
        with disk_errors():
            path.mkdir(FOLDER_MODE)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def discard(self, folder: Path) -> None:
        """Remove a folder in one step for every onlooker: rename it in here, then take it apart."""
        bin_ = self._folder / f"{GONE}{uuid.uuid4().hex}"
        folder.rename(bin_)
        shutil.rmtree(bin_, ignore_errors=True)

    def sweep(self) -> int:
        """Remove what killed processes left behind: a day after the last write to it, what was given up at once.

        Returns how many files and folders.
        """
        oldest, removed = time.time() - ABANDONED_AFTER.total_seconds(), 0
        for entry in list(self._folder.iterdir()):
            with suppress(FileNotFoundError):  # another process sweeps too
                if entry.stat().st_mtime >= oldest and not entry.name.startswith(GONE):
                    continue
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink()
                removed += 1
        return removed


def _create(path: Path) -> IO[bytes]:
    return open(path, "xb", buffering=0, opener=private)


def write(handle: IO[bytes], block: bytes | memoryview) -> None:
    """Write a whole block. Raises Unavailable, for instance when the disk is full."""
    rest = memoryview(block)
    with disk_errors():
        while rest:
            rest = rest[handle.write(rest[:WRITE_BYTES]) :]


def sync(target: IO[bytes] | int) -> None:
    """Wait until a file or folder is on the disk. Raises Unavailable."""
    with disk_errors():
        os.fsync(target)


def uncache(file: IO[bytes], size: int) -> None:
    """Let the system forget the `size` bytes before the file's position, which are on the disk; where it can."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), file.tell() - size, size, os.POSIX_FADV_DONTNEED)


def linked_alone(path: Path, second: Path) -> bool:
    """Give a file a second name; False for one that has several, which may be another's, and where that cannot be."""
    info = path.lstat()
    if info.st_nlink > 1 or not stat.S_ISREG(info.st_mode):
        return False
    try:
        os.link(path, second, follow_symlinks=False)
    except OSError:  # on another disk, or another user's
        return False
    return True


def synced_sha256(path: Path) -> str:
    """Hex; computed while the file goes to the disk. Raises OSError."""
    with path.open("rb") as file, ThreadPoolExecutor(1, thread_name_prefix="fsync") as pool:
        on_disk = pool.submit(os.fsync, file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        on_disk.result()
    return digest


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
