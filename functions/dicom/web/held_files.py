"""Reading DICOM files out of the tars in which their series lie, by ranges."""

import io
from collections.abc import Iterable, Iterator
from typing import Any

from shared.db.models import DicomInstance, DicomSeries
from shared.storage.port import Storage
from shared.storage.streams import BLOCK

Held = tuple[DicomInstance, DicomSeries]
AHEAD = 8 * BLOCK
"""Read at once where one file after another is wanted."""


class HeldFile(io.RawIOBase):
    """One file, for who reads files by themselves; each read is a range of the object, so buffer it."""

    name = "held.dcm"  # pydicom asks every file for one

    def __init__(self, storage: Storage, held: Held) -> None:
        self._storage = storage
        self._instance, self._series = held
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._instance.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self._instance.size - self._at))
        if not wanted:
            return 0
        start = self._instance.offset + self._at
        found = self._storage.read_range(self._series.bucket, self._series.key, start, wanted)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def open_held(storage: Storage, held: Held) -> io.BufferedReader:
    """The file, buffered so that its header is one read."""
    size = min(max(held[0].header_bytes + 64, 64 << 10), 4 * BLOCK)
    return io.BufferedReader(HeldFile(storage, held), buffer_size=size)


def read_held(storage: Storage, held: Held) -> bytes:
    """The whole file."""
    instance, series = held
    return storage.read_range(series.bucket, series.key, instance.offset, instance.size)


def blocks_of(storage: Storage, files: Iterable[Held]) -> Iterator[tuple[Held, Iterator[bytes]]]:
    """The files one after another, each in blocks; those that lie together in one object are read together."""
    window = _Window(storage)
    wanted = list(files)
    for number, held in enumerate(wanted):
        yield held, window.blocks(held, _until(wanted, number))


def _until(files: list[Held], number: int) -> int:
    """The end of what is wanted of the object that this file is in, as far as it makes sense to read on."""
    end = files[number][0].offset + files[number][0].size
    for instance, series in files[number + 1 :]:
        if series.key != files[number][1].key or not end <= instance.offset <= end + BLOCK:
            break
        end = instance.offset + instance.size
        if end > files[number][0].offset + AHEAD:
            break
    return end


class _Window:
    """What was read last."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._key: str | None = None
        self._start = 0
        self._data = b""

    def blocks(self, held: Held, until: int) -> Iterator[bytes]:
        instance, series = held
        at, end = instance.offset, instance.offset + instance.size
        while at < end:
            length = min(BLOCK, end - at)
            if series.key != self._key or not self._start <= at <= at + length <= self._start + len(
                self._data
            ):
                self._read(series, at, min(AHEAD, max(until, end) - at))
            found = self._data[at - self._start : at - self._start + length]
            if not found:
                raise EOFError("a series' object is shorter than its rows say")
            yield found
            at += len(found)

    def _read(self, series: DicomSeries, start: int, length: int) -> None:
        self._data = self._storage.read_range(series.bucket, series.key, start, length)
        self._key, self._start = series.key, start
