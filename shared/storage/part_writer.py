"""One part of a multipart upload on its way into the folder store."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from threading import Lock
from types import TracebackType
from typing import IO, Self

import xxhash

from shared.errors import TooLarge
from shared.storage.disk import sync, uncache, write
from shared.storage.port import Part, UploadNotFound

CACHED_BYTES = 1 << 29
"""Of one upload, so much stays in the system's memory for whoever reads it next. A larger one would push out all else,
and make the system find new memory all the time, which costs more than the writing."""


class PartWriter:
    """Writes a part to its place. The part counts once `finish` returned; left before that, it was not received.

    The ETag is XXH3's 128 bits: it tells parts apart, and costs a seventieth of MD5, which took more than half of the
    time of an upload. Who wants more sends Content-MD5, or a SHA-256 of the whole.
    """

    def __init__(
        self,
        data: IO[bytes],
        files: ExitStack,
        number: int,
        part_bytes: int,
        confirm: Callable[[Part], None],
        leave: Callable[[], None],
        queue: Lock,
    ) -> None:
        """`data` stands where the part begins; `files` closes it, and the lock that keeps other writers away.

        `queue` is that of all writers of one file. The kernel lets one of them write at a time, and lets the others
        spin: up to two thirds of the CPU of an upload.
        """
        self._part_bytes = part_bytes
        self._number = number
        self._data = data
        self._files = files
        self._confirm = confirm
        self._leave = leave
        self._queue = queue
        self._size = 0
        self._digest = xxhash.xxh3_128()
        self._is_closed = False
        # A request that is cancelled leaves while its last block is being written: the file must not close under it.
        self._turn = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, block: bytes | memoryview) -> None:
        """Write the next bytes. Raises TooLarge, Unavailable."""
        with self._turn:
            check_room(self._number, self._size + len(block), self._part_bytes)
            with self._queue:
                write(self._data, block)
            self._digest.update(block)
            self._size += len(block)

    def finish(self) -> Part:
        """The part, on the disk and received; the writer is closed. Raises UploadNotFound, Unavailable."""
        part = Part(self._number, self._digest.hexdigest(), self._size)
        with self._turn:
            sync(self._data)
            if self._number * self._part_bytes > CACHED_BYTES:
                uncache(self._data, self._size)
            self._confirm(part)
            self._is_closed = True
            self._files.close()
        return part

    @property
    def is_closed(self) -> bool:
        """Whether there is nothing left to close."""
        return self._is_closed

    def close(self) -> None:
        """Give up a part that was not finished, so that others may write it. Closing again is no error."""
        with self._turn:
            if self._is_closed:
                return
            self._is_closed = True
            with self._files, suppress(UploadNotFound):
                self._leave()


def check_room(number: int, size: int, part_bytes: int) -> None:
    """Raises TooLarge for a part that would reach into the next one's place."""
    if size > part_bytes:
        raise TooLarge(
            f"Part {number} has at most {part_bytes} bytes: the upload was started with parts of that size."
        )
