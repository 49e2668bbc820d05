"""The few calls that the command line makes on a running Hounsfield."""

import json
import ssl
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import IO, Any, Self

import httpx

from shared.errors import HounsfieldError

POLL_SECONDS = 0.5


class CallFailed(HounsfieldError):
    """The server answered with a problem, or did not answer."""


class Bearer(httpx.Auth):
    """Sends an access token or API key. An access token that has expired is renewed, once per call, where its refresh
    token is known; the call is then made again."""

    def __init__(self, refresh_url: str, token: str | None) -> None:
        self._refresh_url = refresh_url
        self._token = token
        self._refresh_token: str | None = None

    def hold(self, answer: Any) -> None:
        """Take the tokens of a log-in or refresh. Raises CallFailed for an answer without them."""
        try:
            self._token, self._refresh_token = str(answer["access_token"]), str(answer["refresh_token"])
        except (KeyError, TypeError):
            raise CallFailed(
                "the server answered a log-in without tokens; see that the URL is right"
            ) from None

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """The request, and after a 401 the renewal and the request again; what was answered last counts."""
        response = yield self._signed(request)
        if response.status_code != httpx.codes.UNAUTHORIZED or self._refresh_token is None:
            return
        renewal = {"refresh_token": self._refresh_token}
        self._refresh_token = None  # it is good for one use
        answer = yield httpx.Request("POST", self._refresh_url, json=renewal, extensions=request.extensions)
        if answer.is_success:
            self.hold(_json(answer.read()))
            yield self._signed(request)

    def _signed(self, request: httpx.Request) -> httpx.Request:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Client:
    """One logged-in user of one server."""

    def __init__(self, url: str, token: str | None = None, ca_file: Path | None = None) -> None:
        """`token` is an access token or an API key; without one, log in. `ca_file` holds the certificates of whoever
        signed the server's, where that is nobody known. Raises CallFailed for a file without any."""
        self._logged_in = False
        base = url.rstrip("/") + "/api/"
        self._bearer = Bearer(f"{base}auth/refresh", token.strip() if token else None)
        self._http = httpx.Client(
            base_url=base,
            auth=self._bearer,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # cookies are for browsers
            timeout=httpx.Timeout(60, read=300),
            verify=_trusted(ca_file),
            trust_env=False,
        )

    def login(self, name: str, password: str) -> None:
        """Log in by e-mail or username. Raises CallFailed."""
        self._bearer.hold(self._call("POST", "auth/login", json={"login": name, "password": password}))
        self._logged_in = True

    def register(self, email: str, password: str) -> None:
        """Make an account. Raises CallFailed."""
        self._call("POST", "auth/register", json={"email": email, "password": password})

    def submit_mri(self, files: Sequence[Path], fields: dict[str, str]) -> dict[str, Any]:
        """Send a brain MRI. Raises CallFailed."""
        with ExitStack() as stack:
            parts = [("files", (path.name, stack.enter_context(_opened(path)))) for path in files]
            return self._call("POST", "process-mri", files=parts, data=fields)

    def wait(
        self, study_id: str, on_change: Callable[[dict[str, Any]], None], seconds: float
    ) -> dict[str, Any]:
        """Poll a study until it ended and its report is there. Raises CallFailed after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            study = self._call("GET", f"studies/{study_id}")
            on_change(study)
            if has_ended(study):
                return study
            if time.monotonic() > deadline:
                raise CallFailed(
                    f"study {study_id} is still {study['status']} ({study['step']}) after {seconds:.0f} s"
                )
            time.sleep(POLL_SECONDS)

    def download(self, path: str, target: Path) -> Path:
        """Save what a route answers, whole or not at all. Raises CallFailed."""
        partial = target.with_name(f".{target.name}.part")
        with self._errors(), self._http.stream("GET", path.removeprefix("/api/")) as response:
            _check(response)
            try:
                with partial.open("wb") as file:
                    for block in response.iter_bytes():
                        file.write(block)
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
        return target

    def close(self) -> None:
        """End the session that `login` began, if the server can be reached, and the connections."""
        if self._logged_in:
            with suppress(CallFailed), self._errors():  # if not: the session ends by itself, some hours later
                self._http.post("auth/logout")
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        with self._errors():
            response = self._http.request(method, path, **body)
        _check(response)
        answer = _json(response.content)
        if not isinstance(answer, dict):
            raise CallFailed(
                f"{self._address} answered, but not as Hounsfield does; see that the URL is right"
            )
        return answer

    @property
    def _address(self) -> str:
        """Scheme, host and port: never the user and password that a URL may hold."""
        return f"{self._http.base_url.scheme}://{self._http.base_url.netloc.decode()}"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (
            httpx.LocalProtocolError,
            UnicodeEncodeError,
        ):  # their words quote the header, and so the token
            raise CallFailed("the token or the URL has characters that cannot be sent") from None
        except httpx.RequestError as error:
            raise CallFailed(
                f"no answer from {self._address}: {str(error) or type(error).__name__}"
            ) from error


def has_ended(study: dict[str, Any]) -> bool:
    """Whether nothing more will happen: rejected, failed, or completed with its report written."""
    task = study["task"] or {}
    if task.get("state") in ("FAILURE", "CANCELLED"):
        return True
    reported = study["results"] is not None and study["results"]["report_id"] is not None
    return study["status"] == "rejected" or (study["status"] == "completed" and reported)


def _trusted(ca_file: Path | None) -> ssl.SSLContext:
    trusted = httpx.create_ssl_context(trust_env=False)
    if ca_file is not None:
        try:
            trusted.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError too
            raise CallFailed(f"{ca_file} does not hold certificates: {error.strerror}") from error
    return trusted


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise CallFailed(f"cannot read {path}: {error.strerror}") from error


def _json(body: bytes) -> Any:
    """The body as JSON; None where it is none."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    detail = f"the server answered {response.status_code}"
    try:
        response.read()  # of a streamed answer nothing is there yet
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        pass  # no problem object: whatever answered was not Hounsfield
    raise CallFailed(detail)
