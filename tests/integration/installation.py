"""`hounsfield up` as a user starts it, and as an operator kills it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

ADMIN = ("admin@example.org", "correct horse battery staple")
START_SECONDS = 90


class Installation:
    """One data folder, started as often as a test likes; `model_url` spares it a model server of its own."""

    def __init__(self, data_dir: Path, model_url: str | None = None, **environment: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.environment = {
            **os.environ,
            "HOUNSFIELD_ADMIN_EMAIL": ADMIN[0],
            "HOUNSFIELD_ADMIN_PASSWORD": ADMIN[1],
            **({"HOUNSFIELD_MODEL_URL": model_url} if model_url else {}),
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.started_in = 0.0
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}/api/", timeout=60, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
        self.http.close()

    def start(self) -> float:
        """Start it; returns the seconds until GET /api/health answered 200."""
        started = time.monotonic()
        command = [sys.executable, "-c", "from functions.cli import main; main()", "up"]
        command += ["--data-dir", str(self.data_dir), "--port", str(self.port)]
        log = (self.data_dir.parent / "up.log").open("ab")
        self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        log.close()
        while not self.answers("health"):
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log()[-3000:]}"
            assert time.monotonic() - started < START_SECONDS, self.log()[-3000:]
            time.sleep(0.05)
        return time.monotonic() - started

    def kill(self) -> None:
        """kill -9 of the process, nothing else."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def answers(self, path: str) -> bool:
        """Whether a route answers 200."""
        try:
            return self.http.get(path).status_code == 200
        except httpx.TransportError:
            return False

    def login(self, email: str = ADMIN[0], password: str = ADMIN[1]) -> None:
        """Log in; later requests carry the token."""
        response = self.http.post("auth/login", json={"email": email, "password": password})
        assert response.status_code == 200, response.text
        self.http.headers["Authorization"] = f"Bearer {response.json()['access_token']}"

    def submit(self, files: list[Path], **fields: str) -> dict[str, Any]:
        """Send a brain MRI."""
        parts = [("files", (path.name, path.read_bytes())) for path in files]
        response = self.http.post("process-mri", files=parts, data=fields)
        assert response.status_code in (200, 202), response.text
        answer: dict[str, Any] = response.json()
        return answer

    def study(self, study_id: str) -> dict[str, Any]:
        """The study as it stands."""
        response = self.http.get(f"scans/{study_id}")
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def wait(self, study_id: str, seconds: float = 180, poll: float = 0.1) -> dict[str, Any]:
        """Wait until the study ended, its report included."""
        deadline = time.monotonic() + seconds
        while True:
            study = self.study(study_id)
            results = study["results"]
            if study["status"] == "rejected" or (results and results["report_id"]):
                return study
            assert (study["task"] or {}).get("state") != "FAILURE", study["message"]
            assert time.monotonic() < deadline, f"{study['status']} at {study['step']}: {self.log()[-3000:]}"
            time.sleep(poll)

    def log(self) -> str:
        """What the process printed."""
        return (self.data_dir.parent / "up.log").read_text(errors="replace")


def free_port() -> int:
    """A port that is free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
