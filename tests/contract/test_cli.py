"""The `hounsfield` command as a user types it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from shared.config import Settings
from shared.db.session import Database
from shared.events import StudyIngested
from shared.ids import uuid7
from shared.runtime import Function, Reject, Services, UnitOfWork
from shared.runtime.postgres_bus import PostgresBus
from shared.runtime.unit import unit_of_work
from tests.contract.test_bus import eventually

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hounsfield(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("HOUNSFIELD_DATABASE_URL", database_url)
    monkeypatch.setenv("HOUNSFIELD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from functions.cli import main; main()", *arguments]
        return subprocess.run(command, input=answer, capture_output=True, text=True, timeout=120)

    return run


def test_config_prints_every_setting_and_no_secret(hounsfield: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_ADMIN_PASSWORD", "hunter2hunter2")
    printed = hounsfield("config").stdout
    for name in Settings.model_fields:
        assert f"HOUNSFIELD_{name.upper()}" in printed
    assert "hunter2" not in printed


def test_every_command_explains_itself(hounsfield: Run) -> None:
    for command in ("up", "demo", "config", "migrate", "create-admin", "submit", "dead-letters"):
        done = hounsfield(command, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout


def test_a_wrong_setting_is_named_without_a_traceback(
    hounsfield: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUNSFIELD_PORT", "many")
    done = hounsfield("config")
    assert done.returncode == 2
    assert "port" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_administrator_is_made_once(hounsfield: Run, database: Database) -> None:
    for _ in range(2):
        done = hounsfield("create-admin", "chief@hospital.example", "--password", "a long pass phrase")
        assert (done.returncode, done.stdout.strip()) == (0, "chief@hospital.example is an administrator.")
    refused = hounsfield("create-admin", "other@hospital.example", answer="password\n")
    assert refused.returncode == 1
    assert "common" in refused.stderr


def test_migrating_a_new_database_is_harmless(hounsfield: Run) -> None:
    assert hounsfield("migrate").stdout.strip() == "The database is up to date."


def test_submitting_to_nobody_says_so(hounsfield: Run, tmp_path: Path) -> None:
    scan = tmp_path / "t1.nii.gz"
    scan.write_bytes(b"x")
    done = hounsfield("submit", str(scan), "--url", "http://127.0.0.1:9", "--token", "t")
    assert done.returncode == 1
    assert "no answer from http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
    assert hounsfield("submit", str(tmp_path / "missing.nii")).returncode == 2
    assert "no pipeline for 'oct'" in hounsfield("submit", str(scan), "--kind", "oct", "--token", "t").stderr


def test_dead_letters_are_listed_shown_replayed_and_discarded(
    hounsfield: Run, services: Services, tenant_id: UUID
) -> None:
    function, seen = Function("broken"), []

    @function.on(StudyIngested)
    def refuse(event: StudyIngested, unit: UnitOfWork) -> None:
        if not seen:
            raise Reject("cannot be read")
        seen.append(event)

    bus = PostgresBus(services.database)
    consumer = bus.consumer(function, services)
    consumer.start()
    with unit_of_work(services, tenant_id) as unit:
        unit.emit(StudyIngested(study_id=uuid7(), kind="ct"))
        unit.emit(StudyIngested(study_id=uuid7(), kind="ct"))
    eventually(lambda: len(bus.dead_letters.list()) == 2)
    first, second = (str(letter.id) for letter in bus.dead_letters.list())
    listed = hounsfield("dead-letters", "list").stdout
    assert first in listed
    assert "cannot be read" in listed
    assert '"kind": "ct"' in hounsfield("dead-letters", "show", first).stdout
    seen.append(None)
    assert hounsfield("dead-letters", "replay", first).returncode == 0
    eventually(lambda: len(seen) == 2)
    consumer.stop(5)
    assert hounsfield("dead-letters", "discard", second).returncode == 0
    assert list(bus.dead_letters.list()) == []
    gone = hounsfield("dead-letters", "show", second)
    assert (gone.returncode, gone.stderr.strip()) == (1, f"hounsfield: no dead letter {second}")
