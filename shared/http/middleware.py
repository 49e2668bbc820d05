"""ASGI middleware: path forms, body limit, trace context, security headers."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import TooLarge
from shared.http.problems import problem_response
from shared.telemetry.metrics import HTTP_SECONDS
from shared.telemetry.trace import traced

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class PathForms:
    """Every route under `/api` and without it, with a trailing slash or not: strips both before routing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"].removeprefix("/api") if scope["path"].startswith("/api/") else scope["path"]
            scope = {**scope, "path": path.rstrip("/") or "/"}
        await self.app(scope, receive, send)


DOCUMENT_BYTES = 1 << 20
"""Largest body that is read into memory whole: JSON, a web form, a CloudEvent."""
STREAMED = ("multipart/form-data", "application/octet-stream")


class BodyLimit:
    """Refuses a body over the limit, by its declared length or as soon as that much was received.

    Only bodies that are streamed to disk may be as large as `limit`; all others end at DOCUMENT_BYTES.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        streamed = headers.get("content-type", "").startswith(STREAMED) or scope["path"].startswith(
            "/storage/"
        )
        limit = self.limit if streamed else min(self.limit, DOCUMENT_BYTES)
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            await problem_response(_too_large(limit))(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(limit)
            return message

        await self.app(scope, counted, send)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than the limit of {limit} bytes")


class Observed:
    """Trace context in and out, duration metrics, security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        with traced(Headers(scope=scope).get("traceparent")) as traceparent:
            await self.app(scope, receive, _answering(scope, send, started, traceparent))


def _answering(
    scope: Scope, send: Send, started: float, traceparent: str
) -> Callable[[Message], Awaitable[None]]:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["traceresponse"] = traceparent
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            _observe(scope, message, time.monotonic() - started)
        await send(message)

    return answer


def _observe(scope: Scope, message: Message, seconds: float) -> None:
    route: Any = scope.get("route")
    template = getattr(route, "path", "unmatched")
    HTTP_SECONDS.labels(scope["method"], template, f"{message['status'] // 100}xx").observe(seconds)
