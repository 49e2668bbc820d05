"""The model server of one machine: a child process that is started, watched, restarted and stopped."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import IO, Final, Self

import httpx
import structlog
from pydantic import SecretStr

from shared.config import Settings
from shared.oip.errors import ModelUnavailable

log = structlog.get_logger(__name__)

START_SECONDS: Final = 60.0
GRACE_SECONDS: Final = 5.0
BACKOFF_SECONDS: Final = (0.2, 1.0, 5.0, 15.0, 30.0)
"""Pauses before the first, second, … restart; the last for all further ones."""
STEADY_SECONDS: Final = 60.0
"""A server that ran this long starts again at the first pause."""
HOPELESS_DEATHS: Final = 3
"""Deaths in a row after which nobody waits any longer for it to become ready; restarts go on."""
_POLL_SECONDS: Final = 0.1
_LOCALHOST: Final = "127.0.0.1"
_PREFIX: Final = "HOUNSFIELD_"


class ModelServerProcess:
    """`python -m serving.adapters.kserve` under supervision, on a free port of the loopback interface.

    environment: variables for the child besides those that the settings give. Of this process's own it gets all but
    HOUNSFIELD_…: the password of the database is none of its business.
    """

    def __init__(
        self, settings: Settings, environment: Mapping[str, str] | None = None, *, preload: bool = False
    ) -> None:
        self._settings = settings
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX)}
        self._environment = {**inherited, **_settings_environment(settings), **(environment or {})}
        self._preload = preload
        self._port = _free_port()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="model-server", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self.log_file = settings.data_dir / "logs" / "model-server.log"

    @property
    def url(self) -> str:
        """Base URL; it stays the same over restarts."""
        return f"http://{_LOCALHOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """Process id of the running server; None before the start and between death and restart."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, timeout: float = START_SECONDS) -> None:
        """Start and wait until it takes requests. Raises ModelUnavailable where it does not, and stops it."""
        self.launch()
        try:
            self.wait_ready(timeout)
        except ModelUnavailable:
            self.stop()
            raise

    def launch(self) -> None:
        """Start without waiting; it is restarted for as long as it takes."""
        self._thread.start()

    def wait_ready(self, timeout: float = START_SECONDS) -> None:
        """Wait until `/v2/health/ready` answers. Raises ModelUnavailable after `timeout` seconds or too many deaths."""
        end = time.monotonic() + timeout
        with httpx.Client(trust_env=False, timeout=2.0) as client:
            while not _answers(client, f"{self.url}/v2/health/ready"):
                late = time.monotonic() > end or self._deaths >= HOPELESS_DEATHS
                if late or self._stopping.wait(_POLL_SECONDS):
                    raise ModelUnavailable(
                        f"the model server does not become ready; see logs/{self.log_file.name}"
                    )

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Stop the server: politely, then after `grace` seconds by force. Stopping twice is no error."""
        self._stopping.set()
        process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._thread.is_alive():
            self._thread.join()

    def _supervise(self) -> None:
        self.log_file.parent.mkdir(0o700, parents=True, exist_ok=True)
        with open(self.log_file, "ab", opener=partial(os.open, mode=0o600)) as output:
            while not self._stopping.is_set():
                started = time.monotonic()
                code = self._run(output)
                if self._stopping.is_set():
                    return
                steady = time.monotonic() - started > STEADY_SECONDS
                self._deaths = 1 if steady else self._deaths + 1
                pause = BACKOFF_SECONDS[min(self._deaths, len(BACKOFF_SECONDS)) - 1]
                log.warning("model server ended, restarting", exit_code=code, pause_seconds=pause)
                self._stopping.wait(pause)

    def _run(self, output: IO[bytes]) -> int:
        """One life of the server; its exit code."""
        # A session of its own: Ctrl-C goes to the parent alone, which then stops everything in order.
        process = subprocess.Popen(
            self._command(),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._process = process
        if self._stopping.is_set():  # stop() may have looked just before this process was there
            process.kill()
        return process.wait()

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "serving.adapters.kserve"]
        command += ["--catalogue", str(self._settings.catalogue_dir.resolve())]
        command += ["--host", _LOCALHOST, "--port", str(self._port), "--parent-pid", str(os.getpid())]
        return [*command, "--preload"] if self._preload else command


def _settings_environment(settings: Settings) -> dict[str, str]:
    """The settings that a model server reads, as variables: they may have come from elsewhere than ours."""
    values = {
        "DATA_DIR": str(settings.data_dir.resolve()),
        "STORAGE_URL": settings.storage_url,
        "S3_ENDPOINT_URL": settings.s3_endpoint_url,
        "S3_REGION": settings.s3_region,
        "S3_ACCESS_KEY": _revealed(settings.s3_access_key),
        "S3_SECRET_KEY": _revealed(settings.s3_secret_key),
        "BUCKET_PREFIX": settings.bucket_prefix,
        "MAX_VOLUME_BYTES": str(settings.max_volume_bytes),
        "THREADS": str(settings.threads),
        "LOG_LEVEL": settings.log_level,
        "LOG_FORMAT": settings.log_format,
    }
    return {f"{_PREFIX}{name}": value for name, value in values.items() if value is not None}


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOCALHOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
