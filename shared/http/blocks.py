"""A request's body on its way to the disk."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from starlette.requests import ClientDisconnect, Request

from shared.http.straight import offered

BLOCK_BYTES = 1 << 20
KEPT_BLOCKS = 16
"""So many are used again: memory that the system must find and clear each time costs more than all copying."""
WRITERS = 16
"""Threads that write; they are their own, so that a slow disk keeps no other request waiting."""
_blocks: list[bytearray] = []
_writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="write")


async def write_blocks(request: Request, write: Callable[[memoryview], object]) -> None:
    """Hand a body to `write`, block by block in a thread, while the next block is received; two are held at most.

    When this returns or raises, no thread is writing, unless the task was cancelled meanwhile. Raises ClientDisconnect
    and whatever `write` raises.
    """
    blocks = [_take(), _take()]
    filling, other = memoryview(blocks[0]), memoryview(blocks[1])
    loop = asyncio.get_running_loop()
    writing: asyncio.Future[object] | None = None
    filled = 0
    body = Body(request)
    try:
        while size := await body.read_into(filling[filled:]):
            filled += size
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


class Body:
    """The body of a request as something to read from, in the way that the server offers."""

    def __init__(self, request: Request) -> None:
        self._receive_into = offered(request.scope)
        self._messages = _messages(request)
        self._rest = memoryview(b"")
        self._is_begun = False

    async def read_into(self, view: memoryview) -> int:
        """Put what comes next into the buffer; says how many bytes, 0 at the end. Raises ClientDisconnect."""
        if not self._rest:
            if self._receive_into is not None and self._is_begun:
                return await self._receive_into(view)
            self._is_begun = True
            self._rest = memoryview(await anext(self._messages, b""))
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


async def _messages(request: Request) -> AsyncIterator[bytes]:
    """The messages of a body that hold something."""
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        if message.get("body"):
            yield message["body"]


def _take() -> bytearray:
    return _blocks.pop() if _blocks else bytearray(BLOCK_BYTES)


def _give_back(blocks: list[bytearray]) -> None:
    """Only of a body that was written whole: nobody has these blocks any more."""
    _blocks.extend(blocks[: max(0, KEPT_BLOCKS - len(_blocks))])
