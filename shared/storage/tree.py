"""Files beneath one folder, reached segment by segment through descriptors.

No symbolic link is followed at any place, also not one that appears between a check and its use, so nothing
that somebody puts into the tree leads a reader or a writer out of it. Only regular files count.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from shared.storage.disk import FOLDER_MODE

_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FOLDER = _ROOT | os.O_NOFOLLOW
# O_NONBLOCK: opening a FIFO must not wait for a writer. It changes nothing for regular files.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Absent(Exception):
    """No regular file at that path."""


class Blocked(Exception):
    """A file or link stands where the path needs a folder, or a folder where it needs a file."""


class Tree:
    """Regular files under `root`, named by lists of segments that the caller has checked."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, segments: Sequence[str]) -> IO[bytes]:
        """The file, open for reading. Raises Absent."""
        with _absent(), self._folder(segments[:-1]) as folder:
            descriptor = os.open(segments[-1], _FILE, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Absent
        return os.fdopen(descriptor, "rb")

    def stat(self, segments: Sequence[str]) -> os.stat_result:
        """Size and times of the file. Raises Absent."""
        with _absent(), self._folder(segments[:-1]) as folder:
            found = os.stat(segments[-1], dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            raise Absent
        return found

    def link(self, segments: Sequence[str], target: Path) -> None:
        """Give the file a second name. Raises Absent; OSError where the file system has no such thing."""
        with _absent(), self._folder(segments[:-1]) as folder:
            os.link(segments[-1], target, src_dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(target.lstat().st_mode):
            target.unlink()
            raise Absent

    def place(self, source: Path, segments: Sequence[str]) -> None:
        """Rename `source` to the path, making folders on the way, replacing a file. Raises Blocked."""
        try:
            with self._folder(segments[:-1], create=True) as folder:
                os.rename(source, segments[-1], dst_dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EISDIR):
                raise Blocked from error
            raise

    def sync(self, segments: Sequence[str]) -> None:
        """Wait until the file's name is on the disk."""
        with _absent(), self._folder(segments[:-1]) as folder:
            os.fsync(folder)

    def remove(self, segments: Sequence[str]) -> None:
        """Remove the file and the folders that this leaves empty. Raises Absent."""
        self.stat(segments)
        with _absent(), self._folder(segments[:-1]) as folder:
            os.unlink(segments[-1], dir_fd=folder)
        for depth in range(len(segments) - 1, 0, -1):
            try:
                with self._folder(segments[: depth - 1]) as folder:
                    os.rmdir(segments[depth - 1], dir_fd=folder)
            except OSError:  # not empty: so are those above it
                return

    def walk(self, start: Sequence[str], prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        """Path and status of every file under `start` whose path begins with `prefix`, in byte order of paths.

        One folder at a time is read. Sorting a folder's name with its slash puts what is in it where the
        whole path belongs: "a-b", "a.c", "a/b", "a0".
        """
        pending = self._entries("/".join(start), prefix)
        while pending:
            path, info = pending.pop()
            if info is None:
                pending += self._entries(path.removesuffix("/"), prefix)
            else:
                yield path, info

    def _entries(self, path: str, prefix: str) -> list[tuple[str, os.stat_result | None]]:
        """What is in a folder, last first: files with their status, folders with a slash and None."""
        found: list[tuple[str, os.stat_result | None]] = []
        segments = path.split("/") if path else []
        with suppress(Absent), _absent(), self._folder(segments) as folder, os.scandir(folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    found += _entry(f"{path}/{entry.name}" if path else entry.name, entry)
        chosen = [(name, info) for name, info in found if _may_match(name, prefix)]
        return sorted(chosen, key=lambda item: os.fsencode(item[0]), reverse=True)

    @contextmanager
    def _folder(self, segments: Sequence[str], create: bool = False) -> Iterator[int]:
        """Descriptor of a folder, open while the context lasts. Raises OSError."""
        descriptor = os.open(self._root, _ROOT)
        try:
            for segment in segments:
                if create:
                    _make(segment, descriptor)
                child = os.open(segment, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = child
            yield descriptor
        finally:
            os.close(descriptor)


def _make(segment: str, parent: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(segment, FOLDER_MODE, dir_fd=parent)
        os.fsync(parent)


def _entry(path: str, entry: "os.DirEntry[str]") -> list[tuple[str, os.stat_result | None]]:
    if entry.is_dir(follow_symlinks=False):
        return [(path + "/", None)]
    if entry.is_file(follow_symlinks=False):
        return [(path, entry.stat(follow_symlinks=False))]
    return []


def _may_match(path: str, prefix: str) -> bool:
    """Whether a file has the prefix, or in a folder, whose path ends with a slash, files may."""
    return path.startswith(prefix) or (path.endswith("/") and prefix.startswith(path))


@contextmanager
def _absent() -> Iterator[None]:
    """Turn the errors of a path that leads to no file into Absent."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG):
            raise Absent from error
        raise
