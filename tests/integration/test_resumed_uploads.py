"""Uploads that are cut off go on where they were, whoever of client and server died; nothing is sent twice.

HOUNSFIELD_TEST_UPLOAD_BYTES=2147483648 does it with 2 GiB.
"""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from shared.oip.server_process import ModelServerProcess
from tests.conftest import open_folder
from tests.integration.installation import Installation

ROOT = Path(__file__).resolve().parents[2]
SIZE = int(os.environ.get("HOUNSFIELD_TEST_UPLOAD_BYTES", 160 << 20))
PART_BYTES = 16 << 20
SECONDS = 60 + SIZE / (10 << 20)


class Watch:
    """Looks at the parts in the folder store all the time: when each was written, however often."""

    def __init__(self, objects: Path) -> None:
        self._objects = objects
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.written: dict[int, set[int]] = {}
        """By number of the part: the times at which it was written."""

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def until(self, count: int, process: subprocess.Popen[str]) -> None:
        """Wait until the store has so many parts."""
        deadline = time.monotonic() + SECONDS
        while len(self.written) < count:
            assert process.poll() is None, f"it ended before it was killed: {process.communicate()}"
            assert time.monotonic() < deadline, f"{len(self.written)} parts of {count}"
            time.sleep(0.002)

    def _look(self) -> None:
        while not self._ended.wait(0.005):
            with suppress(FileNotFoundError):  # the upload was finished while we looked
                for path in self._objects.rglob("[0-9]" * 5 + ".*"):
                    if path.suffix != ".lock":  # being written
                        self.written.setdefault(int(path.name[:5]), set()).add(path.stat().st_mtime_ns)


@pytest.fixture
def installation(model_server: ModelServerProcess) -> Iterator[Installation]:
    environment = {"HOUNSFIELD_MAX_UPLOAD_BYTES": str(4 << 30)}
    with (
        open_folder() as folder,
        Installation(folder / "data", model_server.url, **environment) as installation,
    ):
        installation.start()
        installation.login()
        yield installation


@pytest.fixture
def token(installation: Installation) -> str:
    made = installation.http.post("auth/api-keys", json={"name": "scanner 3"})
    assert made.status_code == 201, made.text
    key: str = made.json()["key"]
    return key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "slide.bin"
    with path.open("wb") as out:
        for _ in range(SIZE // PART_BYTES):
            out.write(os.urandom(PART_BYTES))
        out.write(b"the rest")
    return path


@pytest.mark.timeout(120 + 4 * SECONDS)
def test_client_and_server_are_killed_and_the_upload_goes_on(
    installation: Installation, token: str, file: Path, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{installation.port}"
    command = [sys.executable, "-m", "tests.integration.uploading_client"]
    command += [url, token, str(file), str(tmp_path / "state")]

    def upload() -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    count = -(-file.stat().st_size // PART_BYTES)
    objects = installation.data_dir / "objects"
    with Watch(objects) as watch:
        first = upload()
        watch.until(round(0.3 * count), first)
        first.kill()
        first.communicate()
        assert (first.returncode, len(watch.written) < count) == (-signal.SIGKILL, True)
        time.sleep(1)  # a part that had come whole is stored
        second = upload()
        watch.until(round(0.6 * count), second)
        installation.kill()
        assert len(watch.written) < count
        installation.start()
        told, said = second.communicate(timeout=SECONDS)
    assert second.returncode == 0, said
    assert set(watch.written) <= set(range(1, count + 1))
    twice = {number for number, times in watch.written.items() if len(times) > 1}
    assert twice == set(), "parts were sent twice"
    (stored,) = (path for path in objects.rglob("*") if path.is_file() and path.stat().st_size > SIZE)
    with stored.open("rb") as got, file.open("rb") as sent:
        assert hashlib.file_digest(got, "sha256").digest() == hashlib.file_digest(sent, "sha256").digest()
    upload_id = told.strip()
    answer = installation.http.get(f"uploads/{upload_id}", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["status"]) == (200, "finished")
    assert list((tmp_path / "state").iterdir()) == []


def test_ctrl_c_says_how_to_go_on_and_resume_does(
    installation: Installation, token: str, file: Path, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{installation.port}"
    command = [sys.executable, "-c", "from functions.cli import main; main()", "submit", str(file)]
    command += ["--kind", "slide", "--url", url, "--parallel", "1"]
    environment = {**os.environ, "HOUNSFIELD_TOKEN": token, "XDG_STATE_HOME": str(tmp_path / "state")}
    with Watch(installation.data_dir / "objects") as watch:
        first = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        watch.until(1, first)
        installation.process.send_signal(signal.SIGSTOP)  # else all may be sent before the interrupt
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=30)
        installation.process.send_signal(signal.SIGCONT)
        assert (first.returncode, said.strip()) == (
            130,
            "Stopped. Run the same command with --resume to go on.",
        )
        time.sleep(1)
        parts = len(watch.written)
        second = subprocess.run(
            [*command, "--resume", "--quiet"], cwd=ROOT, env=environment, capture_output=True, text=True
        )
    assert second.returncode == 0, second.stderr
    assert parts > 0
    assert all(len(times) == 1 for times in watch.written.values())
    headers = {"Authorization": f"Bearer {token}"}
    study = installation.http.get(f"studies/{second.stdout.strip()}", headers=headers)
    assert (study.status_code, study.json()["kind"]) == (200, "slide")
