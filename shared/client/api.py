"""Calls on one server: logged in, in JSON, made again while it is away."""

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, TypeVar

import anyio
import httpx

from shared.client.errors import CallFailed, NoAnswer
from shared.client.retries import AWAY, Patience, Waiting

T = TypeVar("T")
TIMEOUT = httpx.Timeout(60, read=300, pool=None)
AT_ONCE = AWAY - {httpx.codes.TOO_MANY_REQUESTS}
"""For who waits at a keyboard: a lock after wrong passwords is told, not waited for."""
Send = Callable[[], Awaitable[httpx.Response]]


class Api:
    """One caller of one server."""

    def __init__(
        self,
        url: str,
        token: str | None,
        ca_file: Path | None,
        patience: Patience,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`token` is an access token or an API key; `ca_file` holds certificates of who signed the server's."""
        self._token = token.strip() if token else None
        self._refresh_token: str | None = None
        self._renewing = anyio.Lock()
        self._patience = patience
        self._reached = False
        self.http = httpx.AsyncClient(
            base_url=_checked(url) + "/api/",
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # cookies are for browsers
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            timeout=TIMEOUT,
            transport=transport,
            verify=_trusted(ca_file),
            trust_env=False,
        )

    @property
    def address(self) -> str:
        """Where the server is."""
        return _address(self.http.base_url)

    async def login(self, name: str, password: str) -> None:
        """Take the tokens of a new session. Raises CallFailed."""
        said = {"login": name, "password": password}
        self._hold(await self.call("POST", "auth/login", AT_ONCE, json=said))

    async def call(
        self, method: str, path: str, passing: frozenset[int] = AWAY, **request: Any
    ) -> dict[str, Any]:
        """What the route answers, a JSON object; {} for none. Raises CallFailed."""
        response = await self.patiently(partial(self._authorised, method, path, request), passing)
        check(response)
        if response.status_code == httpx.codes.NO_CONTENT:
            return {}
        answer = _json(response.content)
        if not isinstance(answer, dict):
            raise self._foreign()
        return answer

    def read(self, reader: Callable[[Mapping[str, Any]], T], answer: Mapping[str, Any]) -> T:
        """The answer as a value. Raises CallFailed for one without the fields that Hounsfield answers."""
        try:
            return reader(answer)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._foreign() from None

    async def patiently(self, send: Send, passing: frozenset[int] = AWAY) -> httpx.Response:
        """The first answer that is worth having, or the last. Raises NoAnswer.

        Who never answered is not waited for: the URL may be wrong. `passing`: the statuses of what will be well again.
        """
        waiting = Waiting(self._patience, passing=passing)
        while True:
            try:
                response = await send()
            except NoAnswer as error:
                error.passing = self._reached
                pause = waiting.pause(None) if self._reached else None
                if pause is None:
                    raise
            else:
                self._reached = True
                pause = waiting.pause(response.status_code, response.headers.get("Retry-After"))
                if pause is None:
                    return response
            await anyio.sleep(pause)

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[httpx.Response]:
        """What a route answers, while it comes. Raises CallFailed."""
        with self.errors():
            response = await self._authorised("GET", path, {}, stream=True)
            try:
                if not response.is_success:
                    await response.aread()
                check(response)
                yield response
            finally:
                await response.aclose()

    async def close(self) -> None:
        """End the session that `login` began, if the server can be reached, and the connections."""
        if self._refresh_token is not None:
            self._patience = Patience(0)
            with anyio.move_on_after(5):
                with suppress(CallFailed):  # if not: it ends by itself, some hours later
                    await self.call("POST", "auth/logout")
        await self.http.aclose()

    @contextmanager
    def errors(self, url: httpx.URL | None = None) -> Iterator[None]:
        """Raise NoAnswer or CallFailed, in our words, for what goes wrong on the way to the server, or to `url`."""
        try:
            yield
        except (
            httpx.LocalProtocolError,
            UnicodeEncodeError,
        ):  # their words quote the header, and so the token
            raise CallFailed("the token or the URL has characters that cannot be sent") from None
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise NoAnswer(
                f"no answer from {_address(url or self.http.base_url)}: {str(error) or type(error).__name__}",
                sent=not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout),
            ) from error

    async def _authorised(
        self, method: str, path: str, request: dict[str, Any], stream: bool = False
    ) -> httpx.Response:
        """The answer; after a 401 the session is renewed, where there is one, and the call made again."""
        token = self._token
        response = await self._send(method, path, request, stream)
        if response.status_code == httpx.codes.UNAUTHORIZED and await self._renew(token):
            await response.aclose()
            response = await self._send(method, path, request, stream)
        return response

    async def _send(self, method: str, path: str, request: dict[str, Any], stream: bool) -> httpx.Response:
        with self.errors():
            built = self.http.build_request(method, path.removeprefix("/api/"), **request)
            if self._token:
                built.headers["Authorization"] = f"Bearer {self._token}"
            return await self.http.send(built, stream=stream)

    async def _renew(self, refused: str | None) -> bool:
        """Whether there is another access token than the one that was refused. Of many calls, one renews it."""
        async with self._renewing:
            if self._token != refused:
                return True
            if self._refresh_token is None:
                return False
            renewal, self._refresh_token = self._refresh_token, None  # it is good for one use
            try:
                with self.errors():
                    answer = await self.http.post("auth/refresh", json={"refresh_token": renewal})
            except NoAnswer as error:
                self._refresh_token = None if error.sent else renewal
                raise
            if answer.status_code in AWAY:
                self._refresh_token = renewal
            check(answer)
            self._hold(_json(answer.content))
            return True

    def _hold(self, answer: Any) -> None:
        try:
            self._token, self._refresh_token = str(answer["access_token"]), str(answer["refresh_token"])
        except (KeyError, TypeError):
            raise CallFailed(
                "the server answered a log-in without tokens; see that the URL is right"
            ) from None

    def _foreign(self) -> CallFailed:
        return CallFailed(f"{self.address} answered, but not as Hounsfield does; see that the URL is right")


def check(response: httpx.Response) -> None:
    """Raise CallFailed, in the server's words, for an answer that is none of success."""
    if response.is_success:
        return
    status, problem = response.status_code, _json(response.content)
    found = problem if isinstance(problem, dict) else {}
    raise CallFailed(
        str(found.get("detail", f"the server answered {status}")),
        status=status,
        type=str(found["type"]) if "type" in found else None,
        passing=status in AWAY,
    )


def _address(url: httpx.URL) -> str:
    """Scheme, host and port: never the user and password, or the signature, that a URL may hold."""
    return f"{url.scheme}://{url.netloc.decode()}"


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise CallFailed("a server's URL is http://host:port or https://host:port")
    return url.rstrip("/").removesuffix("/api")


def _trusted(ca_file: Path | None) -> ssl.SSLContext:
    trusted = httpx.create_ssl_context(trust_env=False)
    if ca_file is not None:
        try:
            trusted.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError too
            raise CallFailed(f"{ca_file} does not hold certificates: {error.strerror}") from error
    return trusted


def _json(body: bytes) -> Any:
    """The body as JSON; None where it is none."""
    try:
        return json.loads(body)
    except ValueError:
        return None
