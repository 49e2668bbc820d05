"""Reading streams in blocks, with a running digest."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import IO

from shared.storage.port import PART_BYTES

BLOCK_BYTES = 1024 * 1024


def stream_of(data: bytes | IO[bytes]) -> IO[bytes]:
    """Bytes as a stream; a stream as it is."""
    return BytesIO(data) if isinstance(data, bytes) else data


def feed(stream: IO[bytes], *sinks: Callable[[bytes], object]) -> int:
    """Give every block of the stream to every sink; returns the number of bytes."""
    size = 0
    while block := stream.read(BLOCK_BYTES):
        size += len(block)
        for sink in sinks:
            sink(block)
    return size


def sha256_of(stream: IO[bytes]) -> str:
    """Hex, of what is left of the stream."""
    digest = hashlib.sha256()
    feed(stream, digest.update)
    return digest.hexdigest()


@contextmanager
def measured(data: bytes | IO[bytes]) -> Iterator[tuple[IO[bytes], int, str]]:
    """A seekable stream at the beginning of `data`, its size in bytes and its hex SHA-256.

    A stream that cannot seek is spooled: in memory up to one part, then on disk.
    """
    stream = stream_of(data)
    digest = hashlib.sha256()
    if stream.seekable():
        start = stream.tell()
        size = feed(stream, digest.update)
        stream.seek(start)
        yield stream, size, digest.hexdigest()
        return
    with tempfile.SpooledTemporaryFile(max_size=PART_BYTES) as spool:
        size = feed(stream, digest.update, spool.write)
        spool.seek(0)
        yield spool, size, digest.hexdigest()
