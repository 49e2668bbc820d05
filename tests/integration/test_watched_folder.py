"""`cp` into the watched folder of a running installation, and nothing else."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import open_folder
from tests.integration.installation import Installation


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with (
        open_folder() as folder,
        Installation(folder / "data", HOUNSFIELD_SETTLE_SECONDS="3") as installation,
    ):
        installation.start()
        installation.login()
        yield installation


def all_studies(running: Installation) -> list[dict]:
    return running.http.get("studies", params={"limit": 100}).json()["items"]


def wait_for(running: Installation, count: int, seconds: float = 60) -> list[dict]:
    deadline = time.monotonic() + seconds
    while len(found := all_studies(running)) < count:
        assert time.monotonic() < deadline, running.log()[-3000:]
        time.sleep(0.2)
    return found


def drop_box(running: Installation) -> Path:
    return running.data_dir / "incoming" / "default"


def test_a_folder_that_is_copied_in_becomes_a_finished_study(
    running: Installation, brain_files: list[Path], tmp_path: Path
) -> None:
    sent = tmp_path / "Examples Ada 1815"
    sent.mkdir()
    for file in brain_files:
        shutil.copy(file, sent)
    subprocess.run(["cp", "-r", str(sent), str(drop_box(running) / "brain-mri")], check=True)
    [study] = wait_for(running, 1)
    done = running.wait(study["id"])
    assert done["status"] == "completed"
    assert {step["name"] for step in done["results"]["steps"]} >= {"detect", "segment", "measure"}
    deadline = time.monotonic() + 20
    while (drop_box(running) / "brain-mri" / sent.name).exists():
        assert time.monotonic() < deadline, "what was read is removed"
        time.sleep(0.2)
    assert (drop_box(running) / "brain-mri").is_dir()
    assert len(all_studies(running)) == 1
    assert "Ada" not in running.log()


def test_a_thousand_files_are_one_study(running: Installation, tmp_path: Path) -> None:
    before = len(all_studies(running))
    sent = tmp_path / "many"
    sent.mkdir()
    for number in range(1000):
        (sent / f"{number:04}.dcm").write_bytes(bytes(128) + b"DICM" + number.to_bytes(2))
    subprocess.run(["cp", "-r", str(sent), str(drop_box(running) / "ct")], check=True)
    (drop_box(running) / "ct" / "many" / "_COMPLETE").touch()
    wait_for(running, before + 1)
    deadline = time.monotonic() + 120
    while running.http.get("studies", params={"limit": 100}).json()["items"][0]["status"] == "receiving":
        assert time.monotonic() < deadline, running.log()[-3000:]
        time.sleep(0.5)
    time.sleep(4)
    assert len(all_studies(running)) == before + 1
