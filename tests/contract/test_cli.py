"""The `hounsfield` command as a user types it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from sqlalchemy import select

from shared.config import Settings
from shared.db.models import AuditEntry, Tenant, User
from shared.db.session import Database
from shared.events import StudyIngested
from shared.ids import uuid7
from shared.runtime import Function, Reject, Services, UnitOfWork
from shared.runtime.postgres_bus import PostgresBus
from shared.runtime.unit import unit_of_work
from shared.security.keys import key_store
from shared.security.sealing import KEY_ID, name_ring
from tests.builders import make_user
from tests.conftest import open_folder
from tests.contract.test_bus import eventually
from tests.contract.test_key_rotation import add_study, sealed_names

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
    assert "s3://[endpoint host:port]" in printed


def test_settings_have_their_whole_names_also_on_a_narrow_terminal(
    hounsfield: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    printed = hounsfield("config").stdout
    assert [name for name in Settings.model_fields if f"HOUNSFIELD_{name.upper()} " not in printed] == []


def test_every_command_explains_itself(hounsfield: Run) -> None:
    for command in (
        "up",
        "demo",
        "config",
        "migrate",
        "create-admin",
        "submit",
        "studies",
        "dead-letters",
        "keys",
        "buckets",
        "chores",
        "reconcile",
        "dicom",
    ):
        done = hounsfield(command, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "many"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("LOG_LEVEL", "LOUD"),
        ("DICOM_PEERS", "PACS=10.1.0.5"),
        ("DICOM_PEERS", '{"PACS": "pacs.example"}'),
    ],
)
def test_a_wrong_setting_is_named_without_a_traceback(
    hounsfield: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"HOUNSFIELD_{name}", value)
    done = hounsfield("config")
    assert done.returncode == 2
    assert name.lower() in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_there_is_not_is_refused(hounsfield: Run) -> None:
    done = hounsfield("up", "--port", "70000")
    assert (done.returncode, "65535" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://me:hunter2@127.0.0.1:9/hounsfield",
        "postgresql://me:hunter2@hunter2@[/hounsfield",
        "postgresql://me:pass@127.0.0.1:hunter2/hounsfield",
        "mysql://me:hunter2@127.0.0.1/hounsfield",
        "hunter2",
    ],
)
@pytest.mark.parametrize("command", [("migrate",), ("dead-letters", "list"), ("up", "--port", "0")])
def test_a_wrong_database_is_told_in_one_line_without_its_password(
    hounsfield: Run, monkeypatch: pytest.MonkeyPatch, url: str, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HOUNSFIELD_DATABASE_URL", url)
    monkeypatch.setenv("HOUNSFIELD_MODEL_URL", "http://127.0.0.1:9")
    done = hounsfield(*command)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "HOUNSFIELD_DATABASE_URL" in done.stderr
    assert "hunter2" not in done.stderr


def test_a_database_without_tables_says_what_to_do(
    hounsfield: Run, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    other = database_url.replace(database_url.rpartition("/")[2].partition("?")[0], "postgres", 1)
    monkeypatch.setenv("HOUNSFIELD_DATABASE_URL", other)
    done = hounsfield("dead-letters", "list")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "hounsfield migrate" in done.stderr


def test_listing_dead_letters_makes_no_database(
    hounsfield: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HOUNSFIELD_DATABASE_URL")
    done = hounsfield("dead-letters", "list", "--data-dir", str(tmp_path / "new"))
    assert (done.returncode, "no database yet" in done.stderr) == (1, True)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_named(hounsfield: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = hounsfield(
        "create-admin", "a@b.example", "--data-dir", str(tmp_path / "file"), "--password", "x" * 20
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path / "file") in done.stderr


def test_an_interrupted_start_leaves_nothing_running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with open_folder() as folder:
        monkeypatch.setenv("HOUNSFIELD_MODEL_URL", "http://127.0.0.1:9")
        command = [sys.executable, "-c", "from functions.cli import main; main()", "up", "--port", "0"]
        with subprocess.Popen(
            [*command, "--data-dir", str(folder / "data")], start_new_session=True
        ) as started:
            pid_file = folder / "data" / "postgres" / "postmaster.pid"
            eventually(pid_file.exists)
            started.send_signal(signal.SIGTERM)
            assert started.wait(60) in (0, 128 + signal.SIGTERM)
        eventually(lambda: not [one for one in psutil.process_iter() if session_of(one) == started.pid])
        assert not pid_file.exists()


def session_of(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None


def test_an_administrator_is_made_once(hounsfield: Run, database: Database) -> None:
    for more in ("", " already and keeps their password"):
        done = hounsfield("create-admin", "chief@hospital.example", "--password", "a long pass phrase")
        said = f"chief@hospital.example is an administrator{more}."
        assert (done.returncode, done.stdout.strip()) == (0, said)
    refused = hounsfield("create-admin", "other@hospital.example", answer="password\n")
    assert refused.returncode == 1
    assert "common" in refused.stderr


def test_an_administrator_may_be_the_first_of_a_new_tenant(hounsfield: Run, database: Database) -> None:
    secret = ("--password", "a long pass phrase")
    assert hounsfield("create-admin", "a@b.example", *secret, "--tenant", "eye-clinic").returncode == 0
    with database.system() as session:
        (slug,) = session.scalars(select(Tenant.slug).join(User).where(User.email == "a@b.example"))
    assert slug == "eye-clinic"
    other = hounsfield("create-admin", "a@b.example", *secret, "--tenant", "other")
    assert (other.returncode, "another tenant" in other.stderr) == (1, True)
    bad = hounsfield("create-admin", "c@b.example", *secret, "--tenant", "Eye clinic")
    assert (bad.returncode, "small letters" in bad.stderr) == (1, True)


def test_a_folder_of_keys_is_made_by_one_command_and_grows_by_others(hounsfield: Run, tmp_path: Path) -> None:
    folder = ("--keys-dir", str(tmp_path / "keys"))

    def listed() -> list[tuple[str, str]]:
        lines = hounsfield("keys", "list", *folder).stdout.splitlines()
        return [(ring, state) for ring, _, state, _ in (line.split("\t") for line in lines)]

    assert listed() == []
    assert not (tmp_path / "keys").exists()
    made = hounsfield("keys", "rotate", "all", *folder)
    assert (made.returncode, len(made.stdout.splitlines())) == (0, 4)
    rings = ["signing", "names", "audit", "root"]
    assert listed() == [(ring, "used") for ring in rings]
    assert hounsfield("keys", "rotate", *folder).returncode == 0
    assert hounsfield("keys", "rotate", "all", "--after", "10", *folder).returncode == 0
    states = [(ring, state.split(" ")[:2]) for ring, state in listed()]
    assert states == [
        ("signing", ["kept"]),
        ("signing", ["used"]),
        ("signing", ["used", "from"]),
        ("names", ["used"]),
        ("names", ["used", "from"]),
        ("audit", ["used"]),
        ("audit", ["used", "from"]),
        ("root", ["used"]),
    ]
    assert hounsfield("keys", "rotate", "nonsense", *folder).returncode == 2


def test_a_key_for_later_says_from_when_and_no_other_is_queued_behind_it(
    hounsfield: Run, tmp_path: Path
) -> None:
    rotate = ("keys", "rotate", "--keys-dir", str(tmp_path / "keys"))
    assert hounsfield(*rotate, "all").returncode == 0
    soon = f"{datetime.now(UTC) + timedelta(days=7):%Y-%m-%d}"
    made = hounsfield(*rotate, "--after", "10080")
    assert made.returncode == 0
    (line,) = made.stdout.splitlines()
    file = line.split()[1].rstrip(",")
    assert f".pem, used from {soon}" in line
    for refused in (hounsfield(*rotate), hounsfield(*rotate, "all")):
        assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
        assert f"{file} waits to be used from {soon}" in refused.stderr
    assert len(list((tmp_path / "keys").iterdir())) == 5
    for number in ("10081", "99999999999", "-1"):
        assert hounsfield(*rotate, "--after", number).returncode == 2


def test_a_key_file_that_is_spoilt_is_named_with_what_to_do(hounsfield: Run, tmp_path: Path) -> None:
    folder = ("--keys-dir", str(tmp_path))
    hounsfield("keys", "rotate", "all", *folder)
    (pem,) = tmp_path.glob("signing*.pem")
    pem.write_bytes(pem.read_bytes()[:60])
    for command in ("list", "rotate"):
        done = hounsfield("keys", command, *folder)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert f"{pem} does not hold an Ed25519 private key" in done.stderr
        assert "put it back from a backup" in done.stderr


def test_a_rotation_is_recorded(hounsfield: Run, database: Database) -> None:
    def listed() -> list[dict[str, str]]:
        lines = hounsfield("keys", "list").stdout.splitlines()
        return [{"ring": ring, "key": key} for ring, key, _, _ in (line.split("\t") for line in lines)]

    assert (
        hounsfield("create-admin", "chief@hospital.example", "--password", "a long pass phrase").returncode
        == 0
    )
    before = listed()
    done = hounsfield("keys", "rotate", "all", "--after", "5")
    assert (done.returncode, done.stderr) == (0, "")
    with database.system() as session:
        tenant_id = session.scalars(select(Tenant.id)).one()
    with database.tenant(tenant_id) as session:
        query = select(AuditEntry.details).where(AuditEntry.action == "keys.rotate").order_by(AuditEntry.seq)
        recorded = session.scalars(query).all()
    assert recorded == [key for key in listed() if key not in before]
    assert [row["ring"] for row in recorded] == ["signing", "names", "audit", "root"]
    assert hounsfield("audit", "verify").returncode == 0


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://nobody:hunter2@127.0.0.1:1/none", "the database does not answer"),
        (None, "there is no database yet"),
    ],
    ids=["a database that is away", "no database"],
)
def test_a_key_is_replaced_also_where_that_cannot_be_recorded(
    hounsfield: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str | None, why: str
) -> None:
    monkeypatch.delenv("HOUNSFIELD_DATABASE_URL")
    if url is not None:
        monkeypatch.setenv("HOUNSFIELD_DATABASE_URL", url)
    done = hounsfield("keys", "rotate", "--keys-dir", str(tmp_path / "keys"))
    assert (done.returncode, len(list((tmp_path / "keys").iterdir()))) == (0, 1)
    assert (len(done.stderr.splitlines()), "hunter2" in done.stderr) == (1, False)
    assert f"not in the audit log: {why}" in done.stderr


def test_a_running_process_heeds_what_the_command_line_does_to_its_keys(
    hounsfield: Run, services: Services, tenant_id: UUID, database: Database
) -> None:
    owner, names = make_user(database, tenant_id), services.once(name_ring)
    study_id = add_study(services, owner, "A patient")
    old = services.once(key_store).names.newest.key_id
    assert hounsfield("keys", "rotate", "names").returncode == 0
    eventually(lambda: services.once(key_store).names.newest.key_id != old)
    refused = hounsfield("keys", "retire", old)
    assert (refused.returncode, "may be in use until" in refused.stderr) == (1, True)
    assert hounsfield("keys", "reseal").stdout.strip() == "1 name sealed anew"
    assert hounsfield("keys", "reseal").stdout.strip() == "0 names sealed anew"
    assert f"names {old}: stays: what was made" in hounsfield("keys", "retire").stdout
    sealed = sealed_names(services, tenant_id)[study_id]
    assert names.open(sealed, study_id) == "A patient"
    assert sealed[KEY_ID].hex() == services.once(key_store).names.newest.key_id


def test_a_name_that_cannot_be_sealed_anew_is_told_of(
    hounsfield: Run, services: Services, tenant_id: UUID, database: Database
) -> None:
    study_id = add_study(services, make_user(database, tenant_id), b"never sealed")
    done = hounsfield("keys", "reseal")
    assert (done.returncode, done.stdout.strip()) == (1, "0 names sealed anew, 1 left as they were")
    assert str(study_id) in done.stderr


def test_keys_are_not_cared_for_without_a_database(
    hounsfield: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HOUNSFIELD_DATABASE_URL")
    for command in ("reseal", "retire"):
        done = hounsfield("keys", command, "--data-dir", str(tmp_path / "new"))
        assert (done.returncode, "no database yet" in done.stderr) == (1, True)
    assert not (tmp_path / "new").exists()


def test_a_missing_key_of_a_mounted_folder_is_named_with_what_makes_it(
    hounsfield: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOUNSFIELD_KEYS_DIR", str(tmp_path / "mounted"))
    done = hounsfield("create-admin", "chief@hospital.example", "--password", "a long pass phrase")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert str(tmp_path / "mounted" / "audit") in done.stderr
    assert "hounsfield keys rotate audit --keys-dir" in done.stderr
    assert not (tmp_path / "mounted").exists()


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
    for wrong in (("--parallel", "0"), ("--parallel", "65"), ("--modalities",)):
        assert hounsfield("submit", str(scan), *wrong).returncode == 2


def test_dead_letters_are_listed_shown_replayed_and_discarded(
    hounsfield: Run, services: Services, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, seen = Function("broken"), []

    @function.on(StudyIngested)
    def refuse(event: StudyIngested, unit: UnitOfWork) -> None:
        if not seen:
            raise Reject("cannot\tbe read [/red] \\\never")
        seen.append(event)

    bus = PostgresBus(services.database)
    consumer = bus.consumer(function, services)
    consumer.start()
    with unit_of_work(services, tenant_id) as unit:
        unit.emit(StudyIngested(study_id=uuid7(), kind="ct"))
        unit.emit(StudyIngested(study_id=uuid7(), kind="ct"))
    eventually(lambda: len(bus.dead_letters.list()) == 2)
    first, second = (str(letter.id) for letter in bus.dead_letters.list())
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.split("\t") for line in hounsfield("dead-letters", "list").stdout.splitlines()]
    assert [(fields[0], fields[1]) for fields in lines] == [(first, "broken"), (second, "broken")]
    assert all("cannot be read [/red] \\ ever" in fields[5] for fields in lines)
    assert '"kind": "ct"' in hounsfield("dead-letters", "show", first).stdout
    seen.append(None)
    assert hounsfield("dead-letters", "replay", first).returncode == 0
    eventually(lambda: len(seen) == 2)
    consumer.stop(5)
    assert hounsfield("dead-letters", "discard", second).returncode == 0
    assert list(bus.dead_letters.list()) == []
    gone = hounsfield("dead-letters", "show", second)
    assert (gone.returncode, gone.stderr.strip()) == (1, f"hounsfield: no dead letter {second}")
