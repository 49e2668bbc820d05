"""A request's body received straight into the memory of whoever reads it.

An ASGI message costs five copies of its bytes on the way through h11 and uvicorn, and as many allocations. For the parts
of an upload that is most of the work. So the server offers, in the scope's extensions, a function that fills a buffer.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, cast

import h11
from h11._readers import ContentLengthReader
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import RequestResponseCycle

RECEIVE_INTO = "hounsfield.receive_into"
ReceiveInto = Callable[[memoryview], Awaitable[int]]
"""Waits for more of the body and puts it into the buffer; says how many bytes, 0 at the end. Raises ClientDisconnect.

The first message of a body is asked for as usual: that is what a client waits for that expects `100 Continue`.
"""


def offered(scope: MutableMapping[str, Any]) -> ReceiveInto | None:
    """The function, where the server has one for this request."""
    found: ReceiveInto | None = scope.get("extensions", {}).get(RECEIVE_INTO)
    return found


class Straight:
    """The bodies of one connection. h11 is told how many bytes went past it."""

    def __init__(self, conn: h11.Connection, flow: FlowControl) -> None:
        self._conn = conn
        self._flow = flow
        self._target: memoryview | None = None
        self._filled = 0

    def offer(self, cycle: RequestResponseCycle) -> None:
        """Offer it to a request whose body has a declared length."""
        if self._reader() is not None:
            scope = cast(MutableMapping[str, Any], cycle.scope)
            scope["extensions"] = {RECEIVE_INTO: partial(self._receive_into, cycle)}

    def buffer(self) -> memoryview | None:
        """Where the next bytes of the connection belong, if somebody waits for them and they are no others'."""
        reader = self._reader()
        if self._target is None or reader is None or self._conn.trailing_data[0]:
            return None
        return self._target[: reader._remaining] or None

    def received(self, size: int) -> None:
        """So many bytes came into `buffer`. No more are wanted before they are asked for."""
        reader = self._reader()
        assert reader is not None
        reader._remaining -= size
        self._filled, self._target = size, None
        self._flow.pause_reading()

    @property
    def is_complete(self) -> bool:
        """Whether that was all of the body."""
        reader = self._reader()
        return reader is not None and not reader._remaining

    def _reader(self) -> ContentLengthReader | None:
        reader = self._conn._reader
        return reader if isinstance(reader, ContentLengthReader) else None

    async def _receive_into(self, cycle: RequestResponseCycle, view: memoryview) -> int:
        if cycle.more_body and not cycle.body and not cycle.disconnected:
            self._target, self._filled = view, 0
            try:
                self._flow.resume_reading()
                await cycle.message_event.wait()
                cycle.message_event.clear()
            finally:
                self._target = None
            if self._filled:
                return self._filled
        if cycle.body:  # what came before anybody asked
            size = min(len(view), len(cycle.body))
            view[:size] = cycle.body[:size]
            del cycle.body[:size]
            return size
        if cycle.more_body:
            raise ClientDisconnect
        return 0
