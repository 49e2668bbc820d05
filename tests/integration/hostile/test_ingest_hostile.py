"""Hostile files through the whole of ingest: each is refused with its reason, and the worker lives, small, and leaves
nothing anywhere."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import create_engine, text

from shared.config import Settings
from shared.db.embedded import EmbeddedPostgres
from shared.db.models import Study
from shared.db.session import Database
from shared.ids import uuid7
from shared.runtime import Services
from shared.storage.folder import FolderStorage
from shared.storage.signing import UrlSigner
from tests.conftest import open_folder
from tests.intake import Intake
from tests.integration.hostile.cases import CASES

SECONDS = 30
MOST_MIB = 1024
LIMITS = {
    "HOUNSFIELD_MAX_ARCHIVE_BYTES": str(256 * 2**20),
    "HOUNSFIELD_MAX_VOLUME_BYTES": str(256 * 2**20),
    "HOUNSFIELD_LOG_LEVEL": "ERROR",
}


@dataclass
class Victim:
    """A worker and the studies that it was sent."""

    intake: Intake
    process: subprocess.Popen[bytes]
    folder: Path
    sent: dict[str, UUID]

    def study(self, name: str) -> Study:
        """The study, once it was decided on. The worker takes one after the other: the time counts from its turn."""
        study_id, began = self.sent[name], None
        while True:
            study = self.intake.study(study_id)
            if study.status != "receiving" or study.step == "held":
                return study
            assert self.process.poll() is None, "the worker died"
            assert not study.message, f"given up: {study.message}"
            if began is None and self._is_next(name):
                began = time.monotonic()
            assert began is None or time.monotonic() - began < SECONDS, study.step
            time.sleep(0.02)

    def _is_next(self, name: str) -> bool:
        before = list(self.sent).index(name) - 1
        return before < 0 or self.intake.study(list(self.sent.values())[before]).status != "receiving"

    def leftovers(self) -> list[str]:
        """Files where none should be."""
        places = ("work", "cwd", "home", "tmp", "objects/incoming", "objects/studies", "objects/.tmp")
        found = [path for place in places for path in (self.folder / place).rglob("*") if path.is_file()]
        return [str(path.relative_to(self.folder)) for path in found]


@pytest.fixture(scope="module")
def victim(postgres: EmbeddedPostgres) -> Iterator[Victim]:
    name = f"test_{uuid7().hex}"
    admin = create_engine(postgres.url.replace("/hounsfield?", "/postgres?"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"create database {name} template hounsfield"))
    url = postgres.url.replace("/hounsfield?", f"/{name}?")
    with open_folder() as folder:
        for place in ("work", "cwd", "home", "tmp"):
            (folder / place).mkdir()
        storage = FolderStorage(folder / "objects", UrlSigner(b"secret"), "http://127.0.0.1")
        services = Services(Settings(data_dir=folder / "data"), Database(url), storage)
        intake = Intake(services)
        process = start_worker(url, folder)
        sent = {}
        for number, (case, hostile) in enumerate(CASES.items()):
            path = folder / f"case-{number}"
            path.write_bytes(hostile.content())
            sent[case] = intake.send(path, kind=hostile.kind, duplicate=True)  # type: ignore[arg-type]
            path.unlink()
        yield Victim(intake, process, folder, sent)
        process.kill()
        process.wait()
        services.close()
    with admin.connect() as connection:
        connection.execute(text(f"drop database {name} with (force)"))
    admin.dispose()


def start_worker(url: str, folder: Path) -> subprocess.Popen[bytes]:
    root = Path(__file__).resolve().parents[3]
    environment = {
        **os.environ,
        **LIMITS,
        "HOUNSFIELD_DATA_DIR": str(folder / "data"),
        "HOUNSFIELD_WORK_DIR": str(folder / "work"),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "tests.integration.ingest_worker", url, str(folder / "objects")]
    return subprocess.Popen([*command, str(folder / "report.json")], env=environment, cwd=folder / "cwd")


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_with_its_reason(victim: Victim, name: str) -> None:
    study = victim.study(name)
    assert study.status == "rejected", (study.status, study.step, study.details)
    assert study.message is not None and len(study.message) < 600
    assert re.search(CASES[name].says, study.message, re.DOTALL), study.message
    assert "DOE" not in study.message


def test_there_are_sixty_and_more() -> None:
    assert len(CASES) >= 60


def test_at_the_end_the_worker_lives_is_small_and_has_left_nothing(victim: Victim) -> None:
    for name in victim.sent:
        victim.study(name)
    deadline = time.monotonic() + SECONDS
    while left := victim.leftovers():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    assert victim.process.poll() is None
    victim.process.send_signal(signal.SIGTERM)
    assert victim.process.wait(60) == 0
    peaks = json.loads((victim.folder / "report.json").read_text())
    assert peaks["own"] < MOST_MIB and peaks["children"] < MOST_MIB, peaks
