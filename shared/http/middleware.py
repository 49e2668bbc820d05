"""ASGI middleware: proxies, path forms, HEAD, token before upload, trace context, metrics."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from shared.http.addresses import ip_of
from shared.http.authentication import authenticate
from shared.http.bodies import takes_files
from shared.http.cors import METHODS
from shared.http.refusals import noted_refusals
from shared.runtime.services import Services
from shared.security.policy import Action
from shared.telemetry.metrics import HTTP_SECONDS
from shared.telemetry.trace import traced

PEER = "hounsfield.peer"
"""Scope: who is at the other end of the connection, a proxy or not."""
COUNTED = {*METHODS, "OPTIONS"}
"""Methods that metrics tell apart; anybody can make up more."""


class TrustedProxies:
    """Believes X-Forwarded-For and -Proto of the proxies that the settings name, and of nobody else."""

    def __init__(self, app: ASGIApp, proxies: Sequence[str]) -> None:
        believing: Any = ProxyHeadersMiddleware(cast(Any, self._checked), list(proxies))
        self.app = app
        self._entrance: ASGIApp = believing if proxies else app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get("client")
        scope["client"] = scope[PEER] = _in_one_form(peer) or peer
        await self._entrance(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An address in one form, or the peer's: proxies hand on what they are told, and that may be any text."""
        client = _in_one_form(scope.get("client")) or scope[PEER]
        await self.app({**scope, "client": client}, receive, send)


def _in_one_form(client: tuple[str, int] | None) -> tuple[str, int] | None:
    """An IPv4 address that IPv6 maps, say, as itself; None for what is no address."""
    address = ip_of(client[0]) if client else None
    return (str(address), client[1]) if client and address else None


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
    """HEAD is answered wherever GET is: with its headers and no body (RFC 9110 §9.3.2), and as for the whole (§14.2).

    The answer ends before its body: of a file that would be streamed, one block is read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        is_complete = False

        async def without_body(message: Message) -> None:
            nonlocal is_complete
            if message["type"] == "http.response.start":
                await send(message)
            elif not is_complete:
                is_complete = True
                await send({"type": "http.response.body", "body": b""})

        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await self.app({**scope, "method": "GET", "headers": headers}, receive, without_body)


class TokenFirst:
    """Asks who sends an upload, and whether they may, before its body is read: a form goes to disk before any route
    runs."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self.app = app
        self.services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and takes_files(scope):
            caller = await authenticate(self.services, scope)
            async with noted_refusals(self.services, caller, Request(scope)):
                caller.require(Action.STUDIES_WRITE)
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
    template = getattr(route, "path_format", None) or getattr(route, "path", "unmatched")
    method = scope["method"] if scope["method"] in COUNTED else "other"
    HTTP_SECONDS.labels(method, template, f"{message['status'] // 100}xx").observe(seconds)
