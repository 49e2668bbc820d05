"""What is sent: a file, or the files of a folder as one tar that is never written anywhere."""

import hashlib
import os
import stat
import tarfile
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.client.errors import CallFailed, FileChanged

BLOCK_BYTES = 1 << 20
"""How much of a file is held at a time."""
EDGE_BYTES = 64 << 10
TAR_END = 2 * tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Fingerprint:
    """By what a file is known again, wherever it lies and whatever it is called: cheap, so not its whole content."""

    size: int
    mtime_ns: int
    """Of several files: the newest."""
    digest: str
    """Hex SHA-256 of the size and of what the file begins and ends with; of several: of their numbers, sizes, times."""


class Source(ABC):
    """A run of bytes that can be read from anywhere, by several readers at once."""

    path: Path
    """As the caller named it."""
    name: str
    """What the server is told that it is called."""
    size: int

    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """Of what is there now. Raises CallFailed where it cannot be read."""

    @abstractmethod
    def blocks(self, offset: int, length: int) -> Iterator[bytes]:
        """That many bytes from `offset`, in pieces. Raises CallFailed; FileChanged where there are fewer."""


class File(Source):
    """One file."""

    def __init__(self, path: Path) -> None:
        """Raises CallFailed for what is no file that can be read, or empty."""
        self.path = path
        self.name = os.fsencode(path.name).decode(
            errors="replace"
        )  # a name need not be text; what is sent must
        try:
            now = path.stat()
            if not stat.S_ISREG(now.st_mode):  # opening a pipe would wait for whoever writes to it
                raise CallFailed(f"{path} is neither a file nor a folder")
            with path.open("rb") as file:
                self.size = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise _unreadable(path, error) from error
        if self.size == 0:
            raise CallFailed(f"{path} is empty")

    def fingerprint(self) -> Fingerprint:
        try:
            with self.path.open("rb") as file:
                now = os.fstat(file.fileno())
                start = file.read(EDGE_BYTES)
                file.seek(max(0, now.st_size - EDGE_BYTES))
                end = file.read(EDGE_BYTES)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        digest = hashlib.sha256(b"%d\n%b\n%b" % (now.st_size, start, end))
        return Fingerprint(now.st_size, now.st_mtime_ns, digest.hexdigest())

    def blocks(self, offset: int, length: int) -> Iterator[bytes]:
        return _blocks(self.path, offset, length)


@dataclass(frozen=True)
class Member:
    """A file of a folder, as it was when the folder was looked through."""

    path: Path
    size: int
    mtime_ns: int


class Packed(Source):
    """A folder's files as an uncompressed tar: times zero, always in the same order; numbers for names, where none are
    given. It is made while it is read, so nothing of a patient is left in a temporary folder by a crash."""

    def __init__(self, folder: Path, members: Sequence[Member], names: Sequence[str] = ()) -> None:
        self.path = folder
        self.name = "folder.tar"
        self._members = members
        self._names = names or [f"{number:06d}" for number in range(1, len(members) + 1)]
        self._starts = [0]
        for index, member in enumerate(members):
            self._starts.append(self._starts[-1] + len(self._header(index)) + _blocks_of(member.size))
        self.size = self._starts[-1] + TAR_END

    def fingerprint(self) -> Fingerprint:
        seen = [_stat(member.path) for member in self._members]
        listed = "\n".join(f"{number} {now.st_size} {now.st_mtime_ns}" for number, now in enumerate(seen))
        digest = hashlib.sha256(listed.encode()).hexdigest()
        sizes = sum(now.st_size - member.size for now, member in zip(seen, self._members, strict=True))
        return Fingerprint(self.size + sizes, max(now.st_mtime_ns for now in seen), digest)

    def blocks(self, offset: int, length: int) -> Iterator[bytes]:
        end = min(offset + length, self.size)
        while offset < end:
            index = bisect_right(self._starts, offset) - 1
            if index == len(self._members):
                yield bytes(end - offset)
                return
            stop = min(end, self._starts[index + 1])
            yield from self._of_member(index, offset - self._starts[index], stop - self._starts[index])
            offset = stop

    def _of_member(self, index: int, start: int, stop: int) -> Iterator[bytes]:
        """Bytes `start` to `stop` of a member's header, data and padding."""
        member, header = self._members[index], self._header(index)
        if start < len(header):
            yield header[start:stop]
            start = len(header)
        data_end = len(header) + member.size
        if start < min(stop, data_end):
            yield from _blocks(member.path, start - len(header), min(stop, data_end) - start)
        if (padding := stop - max(start, data_end)) > 0:
            yield bytes(padding)

    def _header(self, index: int) -> bytes:
        info = tarfile.TarInfo(self._names[index])
        info.size, info.mode, info.mtime = self._members[index].size, 0o600, 0
        return info.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")


def look_through(folder: Path) -> tuple[list[Member], int]:
    """The files under a folder by path, and how many others were left out: hidden ones, links, what is no file.

    Raises CallFailed where it cannot be read.
    """
    members, left_out = [], 0

    def unreadable(error: OSError) -> None:
        raise _unreadable(Path(error.filename), error) from error

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        links = [name for name in folders if name.startswith(".") or (Path(parent) / name).is_symlink()]
        left_out += len(links)
        folders[:] = sorted(set(folders) - set(links))
        for name in names:
            path = Path(parent) / name
            now = _stat(path)
            # A MIRAX slide's .mrxs may be empty, and stands for the folder beside it.
            empty = now.st_size == 0 and path.suffix != ".mrxs"
            if name.startswith(".") or not stat.S_ISREG(now.st_mode) or empty:
                left_out += 1
            else:
                members.append(Member(path, now.st_size, now.st_mtime_ns))
    return sorted(members, key=lambda member: member.path.relative_to(folder).parts), left_out


def _blocks_of(size: int) -> int:
    """The size with what fills up its last tar block."""
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _blocks(path: Path, offset: int, length: int) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            while length > 0:
                block = file.read(min(length, BLOCK_BYTES))
                if not block:
                    raise FileChanged(f"{path} became shorter while it was read")
                length -= len(block)
                yield block
    except OSError as error:
        raise _unreadable(path, error) from error


def _stat(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> CallFailed:
    return CallFailed(f"cannot read {path}: {error.strerror or type(error).__name__}")
