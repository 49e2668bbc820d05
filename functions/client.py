"""The few calls that the command line makes on a running Hounsfield."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

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
            self._http.headers["Authorization"] = f"Bearer {token}"

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
            parts = [("files", (path.name, stack.enter_context(path.open("rb")))) for path in files]
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
        """Save what a route answers. Raises CallFailed."""
        response = self._http.get(path.removeprefix("/api/"))
        _check(response)
        target.write_bytes(response.content)
        return target

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _call(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **body)
        except httpx.TransportError as error:
            raise CallFailed(f"no answer from {self._http.base_url}: {error}") from error
        _check(response)
        answer: dict[str, Any] = response.json()
        return answer


def has_ended(study: dict[str, Any]) -> bool:
    """Whether nothing more will happen: rejected, failed, or completed with its report written."""
    task = study["task"] or {}
    if task.get("state") in ("FAILURE", "CANCELLED"):
        return True
    reported = study["results"] is not None and study["results"]["report_id"] is not None
    return study["status"] == "rejected" or (study["status"] == "completed" and reported)


def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = f"the server answered {response.status_code}"
    raise CallFailed(detail)
