"""Blocks made by one thread while another uses those before: decoders let other threads run, and so do writes."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

BLOCKS = 8
"""Most that wait to be taken."""


@contextmanager
def ahead(blocks: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """The same blocks, and the same error in its place. Nothing more is read from them once the block ends."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        try:
            yield _taken(pool, blocks)
        finally:
            pool.shutdown(cancel_futures=True)


def _taken(pool: ThreadPoolExecutor, blocks: Iterator[bytes]) -> Iterator[bytes]:
    waiting = deque(pool.submit(next, blocks, None) for _ in range(BLOCKS))
    while (block := waiting.popleft().result()) is not None:
        waiting.append(pool.submit(next, blocks, None))
        yield block
