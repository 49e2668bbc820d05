"""ASGI middleware: path forms, HEAD, body limit, token before upload, trace context, security headers."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import HounsfieldError, TooLarge
from shared.http.authentication import authenticate
from shared.http.problems import problem_response
from shared.runtime.services import Services
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


class HeadAsGet:
    """HEAD is answered wherever GET is: with its headers and no body (RFC 9110 §9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self.app({**scope, "method": "GET"}, receive, without_body)


DOCUMENT_BYTES = 1 << 20
"""Largest body that is read into memory whole: JSON, a web form, a CloudEvent."""
UPLOAD = "/process-mri"
STORAGE = "/storage/"


class BodyLimit:
    """Answers 413 to a body over the limit, by its declared length or as soon as that much was received.

    Only the routes that stream their body to disk take as much as `limit`; all others take DOCUMENT_BYTES.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        streamed = scope["path"] == UPLOAD or scope["path"].startswith(STORAGE)
        limit = self.limit if streamed else min(self.limit, DOCUMENT_BYTES)
        refusal = problem_response(_too_large(limit))
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            await refusal(scope, receive, send)
            return
        received, refused = 0, False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(limit)
            return message

        async def answer(message: Message) -> None:
            """What the application says of a body that it could not read to its end is beside the point."""
            nonlocal refused
            if received > limit and message["type"] == "http.response.start":
                refused = True
                await refusal(scope, receive, send)
            elif not refused:
                await send(message)

        await self.app(scope, counted, answer)


class TokenFirst:
    """Asks who sends an upload before its body is read: a form goes to disk before any route runs."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self.app = app
        self.services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == UPLOAD and scope["method"] == "POST":
            try:
                await authenticate(self.services, scope)
            except HounsfieldError as error:
                await problem_response(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)


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
