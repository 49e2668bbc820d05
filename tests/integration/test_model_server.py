"""The model server as a process: it starts, comes back when it is killed, and never outlives who started it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from shared.config import Settings
from shared.oip.client import OipClient
from shared.oip.errors import ModelUnavailable
from shared.oip.server_process import ModelServerProcess
from tests.model_packages import segmenter

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """One machine with one model."""
    segmenter(tmp_path / "catalogue")
    return Settings(data_dir=tmp_path / "data", catalogue_dir=tmp_path / "catalogue", threads=1)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def answers(url: str) -> bool:
    with OipClient(url) as client:
        return client.ready()


def test_it_starts_answers_and_leaves_nothing_behind(settings: Settings) -> None:
    with ModelServerProcess(settings) as server:
        pid = server.pid
        assert pid is not None
        assert answers(server.url)
    assert not answers(server.url)
    assert server.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_is_ready_within_seconds(settings: Settings) -> None:
    started = time.monotonic()
    with ModelServerProcess(settings):
        assert time.monotonic() - started < 15  # about 3 s on two idle cores


def test_it_listens_on_the_loopback_address_alone(settings: Settings) -> None:
    with ModelServerProcess(settings) as server, httpx.Client(trust_env=False) as client:
        elsewhere = server.url.replace("127.0.0.1", "127.0.0.2")  # answers where a server binds 0.0.0.0
        with pytest.raises(httpx.ConnectError):
            client.get(f"{elsewhere}/v2/health/ready")


def test_a_killed_server_comes_back_at_the_same_address(settings: Settings) -> None:
    with ModelServerProcess(settings) as server:
        first, url = server.pid, server.url
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert wait_until(lambda: server.pid not in (None, first))
        server.wait_ready()
        assert server.url == url
        assert answers(url)


def test_a_client_waits_through_a_restart(settings: Settings) -> None:
    with ModelServerProcess(settings) as server, OipClient(server.url) as client:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert client.metadata("tiny-segmentation", deadline=60).name == "tiny-segmentation"


@pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="reads a process's environment from /proc"
)
def test_it_does_not_learn_secrets_that_it_has_no_use_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUNSFIELD_DATABASE_URL", "postgresql://user:password@host/database")
    with ModelServerProcess(settings) as server:
        environment = Path(f"/proc/{server.pid}/environ").read_bytes()
    assert b"HOUNSFIELD_DATA_DIR=" in environment
    assert b"password" not in environment


def test_it_ends_when_its_parent_is_killed(settings: Settings) -> None:
    program = (
        "import sys, time; from pathlib import Path; from shared.config import Settings;"
        "from shared.oip.server_process import ModelServerProcess;"
        "server = ModelServerProcess(Settings(data_dir=Path(sys.argv[1]), catalogue_dir=Path(sys.argv[2])));"
        "server.start(); print(server.url, flush=True); time.sleep(600)"
    )
    arguments = [str(settings.data_dir), str(settings.catalogue_dir)]
    parent = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert parent.stdout is not None
    with parent.stdout:
        url = parent.stdout.readline().strip()
        assert answers(url)
        parent.kill()
        parent.wait()
    assert wait_until(lambda: not answers(url), seconds=5)


def test_a_server_that_cannot_start_is_given_up_soon_and_says_why_in_its_log(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"catalogue_dir": settings.data_dir / "nowhere"})
    server = ModelServerProcess(nowhere)
    started = time.monotonic()
    with pytest.raises(ModelUnavailable, match=r"model-server\.log"):
        server.start(timeout=60)
    assert time.monotonic() - started < 40
    assert server.pid is None
    assert "no catalogue folder" in server.log_file.read_text()


def test_a_preloaded_model_becomes_ready_after_the_server(settings: Settings) -> None:
    with ModelServerProcess(settings, preload=True) as server, OipClient(server.url) as client:
        assert wait_until(lambda: client.model_ready("tiny-segmentation"))
    assert "model loaded" in server.log_file.read_text()


def test_only_the_named_models_are_served_and_a_wrong_name_is_an_error(settings: Settings) -> None:
    segmenter(settings.catalogue_dir, name="other-segmentation")
    command = [sys.executable, "-m", "serving.adapters.kserve", "--catalogue", str(settings.catalogue_dir)]
    finished = subprocess.run(
        [*command, "--models", "tiny-segmentation,nobody"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert finished.returncode == 1
    assert "has no model nobody" in finished.stderr


def test_an_altered_package_is_left_out_and_the_others_are_served(settings: Settings) -> None:
    bad = segmenter(settings.catalogue_dir, name="altered-segmentation") / "weights.safetensors"
    bad.write_bytes(bad.read_bytes()[:-1])
    with ModelServerProcess(settings) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        assert client.get("/v2/models").json() == {"models": ["tiny-segmentation"]}
    assert "model package left out" in server.log_file.read_text()
