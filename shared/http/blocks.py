"""A request's body on its way to the disk."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

BLOCK_BYTES = 1 << 20
KEPT_BLOCKS = 16
"""So many are used again: memory that the system must find and clear each time costs more than all copying."""
WRITERS = 16
"""Threads that write; they are their own, so that a slow disk keeps no other request waiting."""
_blocks: list[bytearray] = []
_writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="write")


async def write_blocks(body: AsyncIterator[bytes], write: Callable[[memoryview], object]) -> None:
    """Hand a body to `write`, block by block in a thread, while the next block is received; two are held at most.

    When this returns or raises, no thread is writing, unless the task was cancelled meanwhile.
    """
    blocks = [_take(), _take()]
    filling, filled = memoryview(blocks[0]), 0
    other = memoryview(blocks[1])
    loop = asyncio.get_running_loop()
    writing: asyncio.Future[object] | None = None
    try:
        async for piece in body:
            rest = memoryview(piece)
            while rest:
                taken = min(len(rest), BLOCK_BYTES - filled)
                filling[filled : filled + taken] = rest[:taken]
                rest, filled = rest[taken:], filled + taken
                if filled == BLOCK_BYTES:
                    if writing is not None:
                        await writing
                    writing = loop.run_in_executor(_writers, write, filling)
                    filling, other, filled = other, filling, 0
    finally:
        if writing is not None:
            await writing
    if filled:
        await loop.run_in_executor(_writers, write, filling[:filled])
    _give_back(blocks)


def _take() -> bytearray:
    return _blocks.pop() if _blocks else bytearray(BLOCK_BYTES)


def _give_back(blocks: list[bytearray]) -> None:
    """Only of a body that was written whole: nobody has these blocks any more."""
    _blocks.extend(blocks[: max(0, KEPT_BLOCKS - len(_blocks))])
