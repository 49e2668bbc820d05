"""ASGI middleware: proxies, path forms, HEAD, token before upload, trace context, metrics."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from shared.errors import HounsfieldError
from shared.http.authentication import authenticate
from shared.http.bodies import UPLOAD
from shared.http.problems import problem_response
from shared.runtime.services import Services
from shared.telemetry.metrics import HTTP_SECONDS
from shared.telemetry.trace import traced


class TrustedProxies:
    """Believes X-Forwarded-For and -Proto of the proxies that the settings name, and of nobody else."""

    def __init__(self, app: ASGIApp, proxies: Sequence[str]) -> None:
        believing: Any = ProxyHeadersMiddleware(cast(Any, app), list(proxies))
        self.app: ASGIApp = believing if proxies else app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


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


class Observed:
    """Trace context in and out, duration metrics."""

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
            _observe(scope, message, time.monotonic() - started)
        await send(message)

    return answer


def _observe(scope: Scope, message: Message, seconds: float) -> None:
    route: Any = scope.get("route")
    template = getattr(route, "path", "unmatched")
    HTTP_SECONDS.labels(scope["method"], template, f"{message['status'] // 100}xx").observe(seconds)
