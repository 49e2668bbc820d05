"""Ingest as a process of its own: killed at any moment it finishes once, and a full disk costs nobody a file."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select

from shared.config import Settings
from shared.db.models import DicomInstance, OutboxEntry, Study
from shared.db.session import Database
from shared.events import StudyDeleted
from shared.runtime import Services
from shared.runtime.unit import unit_of_work
from shared.storage.folder import FolderStorage
from shared.storage.signing import UrlSigner
from tests.intake import Intake
from tests.unit.functions.ingest.series import ct_series, packed, scout

SECONDS = 60


class Workers:
    """Workers on one database and one store, started and killed one after the other."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.running: subprocess.Popen[bytes] | None = None

    def start(self, *kill: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "HOUNSFIELD_DATA_DIR": str(self.folder / "data"),
            "HOUNSFIELD_WORK_DIR": str(self.folder / "work"),
            "HOUNSFIELD_LEASE_SECONDS": "1",
            "HOUNSFIELD_LOG_LEVEL": "ERROR",
        }
        command = [sys.executable, "-m", "tests.integration.ingest_worker", self.url]
        command += [str(self.folder / "objects"), str(self.folder / "report.json"), *kill]
        root = Path(__file__).resolve().parents[2]
        self.running = subprocess.Popen(command, env=environment, cwd=root)
        return self.running

    def stop(self) -> None:
        if self.running is not None:
            self.running.kill()
            self.running.wait()


@pytest.fixture
def intake(database_url: str, tmp_path: Path) -> Iterator[Intake]:
    """Studies that nobody takes in yet."""
    storage = FolderStorage(tmp_path / "objects", UrlSigner(b"secret"), "http://127.0.0.1")
    services = Services(Settings(data_dir=tmp_path / "data"), Database(database_url), storage)
    yield Intake(services)
    services.close()


@pytest.fixture
def workers(database_url: str, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(database_url, tmp_path)
    yield workers
    workers.stop()


def a_study(folder: Path) -> Path:
    scout(folder / "scout")
    ct_series(folder / "scan", 8)
    return packed(folder, folder.with_suffix(".tar.gz"))


def test_killed_at_any_step_it_is_finished_once(intake: Intake, workers: Workers, tmp_path: Path) -> None:
    study_id = intake.send(a_study(tmp_path / "study"))
    for when, number in [
        ("before", 2),
        ("after", 3),
        ("before", 5),
        ("after", 5),
        ("before", 7),
        ("after", 6),
    ]:
        process = workers.start(when, str(number))
        assert process.wait(SECONDS) == -9, f"{when} {number}"
        assert intake.study(study_id).status == "receiving"
        assert len(intake.incoming()) == 1
    workers.start()
    study = intake.settled(study_id, SECONDS)
    assert study.status == "ingested", study.message
    assert [len(one.instances) for one in intake.series(study_id)] == [1, 8]
    assert [file.role for file in study.files] == ["volume"]
    stored = intake.objects(study_id)
    assert stored == sorted(
        [*(one.key.partition(f"{study_id}/")[2] for one in intake.series(study_id)), "volume/ct.nii"]
    )
    with intake.services.database.system() as session:
        announced = select(func.count()).where(OutboxEntry.type == "hounsfield.study.ingested")
        assert session.scalar(announced) == 1
    with intake.services.database.tenant(intake.tenant_id) as session:
        assert session.scalar(select(func.count()).select_from(DicomInstance)) == 9
    assert list((tmp_path / "work").iterdir()) == []


def test_killed_after_the_commit_nothing_of_it_is_done_again(
    intake: Intake, workers: Workers, tmp_path: Path
) -> None:
    study_id = intake.send(a_study(tmp_path / "study"))
    units = 0
    while intake.study(study_id).status == "receiving":  # the last unit of all is the one that ends the study
        units += 1
        assert units < 20
        workers.start("after", str(units))
        process = workers.running
        assert process is not None
        while process.poll() is None and intake.study(study_id).status == "receiving":
            time.sleep(0.02)
        process.wait(SECONDS)
    before = {key: _written(intake, study_id, key) for key in intake.objects(study_id)}
    workers.start()
    study = intake.settled(study_id, SECONDS)
    assert (study.status, intake.incoming()) == ("ingested", [])
    assert before == {key: _written(intake, study_id, key) for key in intake.objects(study_id)}


def _written(intake: Intake, study_id: object, key: str) -> object:
    return intake.services.storage.head("studies", f"{intake.tenant_id}/{study_id}/{key}").modified


def test_a_worker_that_dies_again_and_again_leaves_one_folder_at_most(
    intake: Intake, workers: Workers, tmp_path: Path
) -> None:
    intake.send(a_study(tmp_path / "study"))
    for _ in range(3):
        assert workers.start("after", "4").wait(SECONDS) == -9
        assert len(list((tmp_path / "work").iterdir())) <= 1


def test_rejected_and_deleted_studies_leave_nothing(intake: Intake, workers: Workers, tmp_path: Path) -> None:
    workers.start()
    kept = intake.settled(intake.send(a_study(tmp_path / "a")), SECONDS)
    assert intake.objects(kept.id)
    with unit_of_work(intake.services, intake.tenant_id) as unit:
        unit.session.execute(delete(Study).where(Study.id == kept.id))
        unit.emit(StudyDeleted(study_id=kept.id))
    deadline = time.monotonic() + SECONDS
    while intake.objects(kept.id):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (tmp_path / "note.pdf").write_bytes(b"%PDF-1.7\n" + bytes(500))
    rejected = intake.settled(intake.send(tmp_path / "note.pdf"), SECONDS)
    assert rejected.status == "rejected"
    assert intake.incoming() == [] and intake.objects(rejected.id) == []
