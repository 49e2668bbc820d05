"""How large a request may be, and how slowly its body may come."""

import asyncio
import re
import time
from collections.abc import Awaitable
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import HeadTooLarge, HounsfieldError, RequestTimeout, TooLarge
from shared.http.problems import problem_response
from shared.http.straight import RECEIVE_INTO, ReceiveInto, offered

DOCUMENT_BYTES = 1 << 20
"""Largest body that is read into memory whole: JSON, a web form, a CloudEvent."""
STORAGE = "/storage/"
_FORMS = re.compile(
    r"/(?:process-mri|studies|segmentation/upload|oct/predict|cases/[^/]+/upload|dicom-web/studies(?:/[^/]+)?)"
)
MAX_HEADERS = 100
Answer = TypeVar("Answer")
SLOWEST = 1 << 10
"""Bytes per second. A body that comes more slowly than this, over all its length, is cut off."""


def takes_files(scope: Scope) -> bool:
    """Whether the route takes files in its body, which goes to disk before the route runs."""
    return scope["method"] == "POST" and _FORMS.fullmatch(scope["path"]) is not None


class HeadLimit:
    """Answers 431 to a head over the limit, in bytes or in headers."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._is_over(scope):
            error = HeadTooLarge(
                f"a request's line and headers are at most {self.limit} bytes and {MAX_HEADERS} headers"
            )
            await problem_response(error)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_over(self, scope: Scope) -> bool:
        headers = scope["headers"]
        line = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
        size = line + sum(len(name) + len(value) + 4 for name, value in headers)
        return len(headers) > MAX_HEADERS or size > self.limit


class BodyLimit:
    """Answers 413 to a body over the limit, by its declared length or as soon as that much was received, and 408 to
    one that stops coming for `seconds`.

    Only the routes that stream their body to disk take as much as `limit`; all others take DOCUMENT_BYTES.
    """

    def __init__(self, app: ASGIApp, limit: int, seconds: float) -> None:
        self.app = app
        self.limit = limit
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        streamed = takes_files(scope) or scope["path"].startswith(STORAGE)
        body = _Body(receive, self.limit if streamed else min(self.limit, DOCUMENT_BYTES), self.seconds)
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > body.limit:
            await problem_response(body.too_large())(scope, receive, send)
            return
        if (receive_into := offered(scope)) is not None:
            extensions = {**scope["extensions"], RECEIVE_INTO: body.into(receive_into)}
            scope = {**scope, "extensions": extensions}
        refused = False

        async def answer(message: Message) -> None:
            """What the application says of a body that it could not read to its end is beside the point."""
            nonlocal refused
            if body.error is not None and message["type"] == "http.response.start":
                refused = True
                await problem_response(body.error)(scope, receive, send)
            elif not refused:
                await send(message)

        await self.app(scope, body.receive, answer)


class _Body:
    """A request's body as it comes; `error` says what became wrong with it."""

    def __init__(self, receive: Receive, limit: int, seconds: float) -> None:
        self.limit = limit
        self.error: HounsfieldError | None = None
        self._receive = receive
        self._seconds = seconds
        self._received = 0
        self._waited = 0.0
        self._is_complete = False

    async def receive(self) -> Message:
        """The next message. Raises TooLarge, RequestTimeout."""
        if self._is_complete:
            return await self._receive()  # waits for the client to go, as long as that takes
        message = await self._patiently(self._receive())
        self._count(len(message.get("body", b"")))
        self._is_complete = not message.get("more_body", False)
        return message

    def into(self, receive_into: ReceiveInto) -> ReceiveInto:
        """The same under the same limits."""

        async def limited(view: memoryview) -> int:
            size = await self._patiently(receive_into(view))
            self._count(size)
            self._is_complete = size == 0
            return size

        return limited

    def _count(self, size: int) -> None:
        self._received += size
        if self._received > self.limit:
            self.error = self.too_large()
            raise self.error

    def too_large(self) -> TooLarge:
        """The error of a body over its limit."""
        return TooLarge(f"the body is larger than the limit of {self.limit} bytes")

    async def _patiently(self, coming: Awaitable[Answer]) -> Answer:
        """Only waiting counts: it is not the client's fault when the application takes its time between blocks."""
        patience = min(self._seconds, self._seconds + self._received / SLOWEST - self._waited)
        started = time.monotonic()
        try:
            async with asyncio.timeout(patience):
                return await coming
        except TimeoutError:
            self.error = RequestTimeout(
                f"no body came for {self._seconds:g} seconds, or less than {SLOWEST} bytes per second of it",
                headers={"Connection": "close"},
            )
            raise self.error from None
        finally:
            self._waited += time.monotonic() - started
