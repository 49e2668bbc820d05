"""`hounsfield up` as an operator meets it: quick to start, alone on its folder, nothing left when it stops."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.conftest import open_folder
from tests.integration.installation import Installation, free_port

HEALTHY_SECONDS = 30


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with open_folder() as folder, Installation(folder / "data") as installation:
        installation.started_in = installation.start()
        installation.login()
        yield installation


def up(installation: Installation, data_dir: str, port: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from functions.cli import main; main()", "up"]
    command += ["--data-dir", data_dir, "--port", str(port)]
    return subprocess.run(command, env=installation.environment, capture_output=True, text=True, timeout=60)


def test_it_is_healthy_within_half_a_minute_and_says_of_what(running: Installation) -> None:
    assert running.started_in < HEALTHY_SECONDS
    health = running.http.get("health").json()
    assert health["checks"] == dict.fromkeys(("database", "storage", "models", "events"), "ok")


def test_the_first_administrator_can_log_in(running: Installation) -> None:
    assert running.http.get("auth/me").json()["role"] == "admin"


def test_the_api_describes_itself(running: Installation) -> None:
    document = running.http.get("openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert {"/process-mri", "/scans/{id}", "/auth/login", "/reports/{id}/pdf"} <= set(document["paths"])


def test_a_second_one_on_the_same_folder_or_port_says_why_it_does_not_start(running: Installation) -> None:
    same_folder = up(running, str(running.data_dir), free_port())
    assert same_folder.returncode == 1
    assert "another hounsfield is running" in same_folder.stderr
    with open_folder() as other:
        same_port = up(running, str(other / "data"), running.port)
        assert same_port.returncode == 1
        assert f"cannot listen on 127.0.0.1:{running.port}" in same_port.stderr
        assert "Traceback" not in same_port.stderr
        assert not (other / "data" / "postgres").exists()
    assert running.answers("health")


def test_a_killed_model_server_comes_back(running: Installation) -> None:
    assert running.process is not None
    [server] = [
        child
        for child in psutil.Process(running.process.pid).children()
        if "kserve" in " ".join(child.cmdline())
    ]
    server.kill()
    deadline = time.monotonic() + HEALTHY_SECONDS
    while running.http.get("health").json()["checks"]["models"] == "ok":
        assert time.monotonic() < deadline, "its death is noticed"
        time.sleep(0.05)
    while running.http.get("health").status_code != 200:
        assert time.monotonic() < deadline, "it is started again"
        time.sleep(0.2)


def test_after_a_stop_nothing_runs_and_after_a_start_everything_is_there() -> None:
    with open_folder() as folder, Installation(folder / "data") as installation:
        installation.start()
        installation.login()
        assert installation.process is not None
        children = psutil.Process(installation.process.pid).children(recursive=True)
        postgres = int((installation.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        assert installation.stop() == 0
        assert not [child for child in children if child.is_running()]
        assert not psutil.pid_exists(postgres)
        installation.start()
        assert installation.http.get("auth/me").status_code == 200, "the token and its key outlive a restart"


@pytest.mark.parametrize("leftover", ["", "{", "[1, 2"])
def test_it_starts_over_what_a_crash_left_of_the_databases_files(leftover: str) -> None:
    with open_folder() as folder, Installation(folder / "data") as installation:
        installation.start()
        installation.process.send_signal(signal.SIGKILL)
        installation.process.wait()
        (installation.data_dir / "postgres" / ".handle_pids.json").write_text(leftover)
        installation.start()
        assert installation.stop() == 0
        assert json.loads((installation.data_dir / "postgres" / ".handle_pids.json").read_text()) == []
