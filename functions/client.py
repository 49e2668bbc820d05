"""The few calls that the command line makes on a running Hounsfield."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import httpx

from shared.errors import HounsfieldError

POLL_SECONDS = 0.5


class CallFailed(HounsfieldError):
    """The server answered with a problem, or did not answer."""


class Client:
    """One logged-in user of one server."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self._http = httpx.Client(
            base_url=url.rstrip("/") + "/api/", timeout=httpx.Timeout(60, read=300), trust_env=False
        )
        if token:
            self._http.headers["Authorization"] = f"Bearer {token.strip()}"

    def login(self, name: str, password: str) -> None:
        """Log in by e-mail or username. Raises CallFailed."""
        answer = self._call("POST", "auth/login", json={"login": name, "password": password})
        self._http.headers["Authorization"] = f"Bearer {answer['access_token']}"

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
        """Close the connections."""
        self._http.close()

    def _call(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        with self._errors():
            response = self._http.request(method, path, **body)
        _check(response)
        try:
            answer = response.json()
        except ValueError:
            answer = None
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
        except httpx.LocalProtocolError:  # its words quote the header, and so the token
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


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise CallFailed(f"cannot read {path}: {error.strerror}") from error


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
