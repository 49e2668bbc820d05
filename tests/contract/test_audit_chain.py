"""The audit log's chain: how it grows, and that whatever is done to it afterwards shows."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import UUID

import pytest
from sqlalchemy import Connection, create_engine, delete, func, select, text
from sqlalchemy.exc import DataError, ProgrammingError
from structlog.testing import capture_logs

from shared.config import Settings
from shared.db.models import AuditEntry, Tenant, User
from shared.db.session import Database
from shared.ids import uuid7
from shared.runtime.services import Services
from shared.runtime.unit import unit_of_work
from shared.security.audit import Actor
from shared.security.audit_chain import Head
from shared.security.audit_verify import BATCH, Verdict, log_heads, verify_tenant
from shared.security.keys import key_store
from tests.builders import make_tenant, make_user

ROWS = 8


@pytest.fixture
def intruder(database_url: str) -> Iterator[Connection]:
    """Somebody who may do everything in the database, triggers or not, but has not the keys."""
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("set session_replication_role = replica"))
        yield connection
    engine.dispose()


@pytest.fixture
def written(services: Services, tenant_id: UUID) -> UUID:
    """A tenant with a log of ROWS rows."""
    write(services, tenant_id, ROWS)
    return tenant_id


def write(services: Services, tenant_id: UUID, count: int = 1, action: str = "study.read") -> None:
    """One access after the other, each in a unit of its own."""
    for _ in range(count):
        with unit_of_work(services, tenant_id, Actor(uuid7(), "password", "192.0.2.1")) as unit:
            unit.audit(action, subject=("study", uuid7()), patient_id="P-1", details={"n": 1})


def verdict(services: Services, tenant_id: UUID, anchor: Head | None = None) -> Verdict:
    return verify_tenant(services, tenant_id, anchor)


def head_of(services: Services, tenant_id: UUID) -> Head:
    head = verdict(services, tenant_id).head
    assert head is not None
    return head


def rows(services: Services, tenant_id: UUID) -> list[AuditEntry]:
    with services.database.tenant(tenant_id) as session:
        return list(session.scalars(select(AuditEntry).order_by(AuditEntry.seq)))


class TestGrowth:
    def test_rows_are_numbered_from_one_and_the_chain_is_good(
        self, services: Services, written: UUID
    ) -> None:
        log = rows(services, written)
        assert [row.seq for row in log] == list(range(1, ROWS + 1))
        assert [row.at for row in log] == sorted(row.at for row in log)
        assert verdict(services, written) == Verdict(written, ROWS, Head(ROWS, log[-1].hash), None)

    def test_a_tenant_without_a_log_is_good_and_has_no_head(
        self, services: Services, tenant_id: UUID
    ) -> None:
        assert verdict(services, tenant_id) == Verdict(tenant_id, 0, None, None)

    def test_several_records_of_a_unit_are_rows_in_their_order(
        self, services: Services, tenant_id: UUID
    ) -> None:
        with unit_of_work(services, tenant_id) as unit:
            for name in ("one", "two", "three"):
                unit.audit(f"test.{name}")
        assert [row.action for row in rows(services, tenant_id)] == ["test.one", "test.two", "test.three"]

    def test_long_logs_are_read_in_batches(self, services: Services, tenant_id: UUID) -> None:
        with unit_of_work(services, tenant_id) as unit:
            for number in range(2 * BATCH + 1):
                unit.audit("test.many", details={"number": number})
        found = verdict(services, tenant_id)
        assert (found.good, found.problem) == (2 * BATCH + 1, None)

    def test_what_is_rolled_back_leaves_no_row_and_no_gap(self, services: Services, written: UUID) -> None:
        with suppress(RuntimeError), unit_of_work(services, written) as unit:
            unit.audit("study.delete")
            raise RuntimeError("it changed its mind")
        write(services, written)
        assert verdict(services, written).good == ROWS + 1
        assert "study.delete" not in {row.action for row in rows(services, written)}

    def test_what_cannot_be_recorded_does_not_happen(self, services: Services, written: UUID) -> None:
        owner = make_user(services.database, written)
        with suppress(DataError), unit_of_work(services, written) as unit:
            unit.session.execute(delete(User).where(User.id == owner.user_id))
            unit.audit("user.delete", details={"what": "no text holds NUL: \0"})
        with services.database.tenant(written) as session:
            assert session.get(User, owner.user_id) is not None
        assert verdict(services, written).good == ROWS

    def test_of_many_writers_at_once_each_waits_for_its_number(
        self, services: Services, tenant_id: UUID
    ) -> None:
        writers, units = 8, 25
        done = threading.Event()
        seen: list[str | None] = []

        def watch() -> None:
            while not done.is_set():
                seen.append(verdict(services, tenant_id).problem)

        watcher = threading.Thread(target=watch)
        watcher.start()
        with ThreadPoolExecutor(writers) as pool:
            for future in [pool.submit(write, services, tenant_id, units) for _ in range(writers)]:
                future.result()
        done.set()
        watcher.join()
        log = rows(services, tenant_id)
        assert [row.seq for row in log] == list(range(1, writers * units + 1))
        assert [row.at for row in log] == sorted(row.at for row in log)
        assert verdict(services, tenant_id).good == writers * units
        assert set(seen) == {None}

    def test_each_tenant_has_its_own_chain(
        self, services: Services, database: Database, written: UUID, intruder: Connection
    ) -> None:
        other = make_tenant(database)
        write(services, other, 3)
        intruder.execute(text("delete from audit_log where tenant_id = :other and seq = 2"), {"other": other})
        assert verdict(services, written).problem is None
        assert verdict(services, other) == Verdict(
            other, 1, Head(3, rows(services, other)[-1].hash), "row 2 was removed"
        )

    def test_a_new_key_goes_on_where_the_old_one_stopped(self, services: Services, written: UUID) -> None:
        services.once(key_store).rotate("audit")
        services.once(key_store).audit_ring.kept(fresh=True)
        write(services, written)
        assert len({row.key_id for row in rows(services, written)}) == 2
        assert verdict(services, written) == Verdict(written, ROWS + 1, head_of(services, written), None)


class TestNobodyChangesIt:
    @pytest.mark.parametrize(
        "statement", ["update audit_log set action = 'x'", "delete from audit_log", "truncate audit_log"]
    )
    def test_the_database_refuses_it_to_its_owner_too(
        self, database_url: str, services: Services, written: UUID, statement: str
    ) -> None:
        engine = create_engine(database_url)
        with pytest.raises(ProgrammingError, match="audit_log only grows"), engine.begin() as connection:
            connection.execute(text(statement))
        engine.dispose()
        assert verdict(services, written).good == ROWS


Tamper = Callable[[Connection], object]


def sql(*statements: str) -> Tamper:
    return lambda connection: [connection.execute(text(statement)) for statement in statements]


COLUMNS = ", ".join(
    column.name for column in AuditEntry.__table__.columns if column.name not in ("id", "seq")
)
COPY = f"insert into audit_log (id, seq, {COLUMNS}) select gen_random_uuid(), {{}}, {COLUMNS} from audit_log where seq = 4"
DAMAGE = {
    "a row removed": (sql("delete from audit_log where seq = 4"), 3, "row 4 was removed"),
    "rows removed": (sql("delete from audit_log where seq in (4, 5)"), 3, "rows 4 to 5 were removed"),
    "the first removed": (sql("delete from audit_log where seq = 1"), 0, "row 1 was removed"),
    "who, changed": (
        sql("update audit_log set actor_id = gen_random_uuid() where seq = 4"),
        3,
        "row 4 does not follow from row 3",
    ),
    "details, changed": (
        sql("""update audit_log set details = '{"n": 2}' where seq = 4"""),
        3,
        "row 4 does not follow from row 3",
    ),
    "a hash, changed": (
        sql(r"update audit_log set hash = '\x00' where seq = 4"),
        3,
        "row 4 does not follow from row 3",
    ),
    "two exchanged": (
        sql(
            "update audit_log set seq = -1 where seq = 4",
            "update audit_log set seq = 4 where seq = 5",
            "update audit_log set seq = 5 where seq = -1",
        ),
        3,
        "row 4 does not follow from row 3",
    ),
    "a gap closed": (
        sql("delete from audit_log where seq = 4", "update audit_log set seq = seq - 1 where seq > 4"),
        3,
        "row 4 does not follow from row 3",
    ),
    "a row put in the middle": (
        sql("drop index uq_audit_log_seq", COPY.format(4)),
        4,
        "a row was put in as 4",
    ),
    "a row put before all": (sql(COPY.format(0)), 0, "a row was put in as 0"),
    "a row put at the end": (sql(COPY.format(9)), 8, "row 9 does not follow from row 8"),
    "the end cut off": (
        sql("delete from audit_log where seq > 6"),
        6,
        "rows 7 to 8 were removed from the end",
    ),
    "the end cut off and the head set back": (
        sql(
            "delete from audit_log where seq > 6",
            "update audit_heads set seq = 6, hash = (select hash from audit_log where seq = 6)",
        ),
        6,
        "the head after row 6 was changed",
    ),
    "the head set back": (
        sql("update audit_heads set seq = 6, hash = (select hash from audit_log where seq = 6)"),
        8,
        "the head names row 6, which is not the last",
    ),
    "everything removed": (sql("delete from audit_log"), 0, "rows 1 to 8 were removed from the end"),
    "the head removed": (sql("delete from audit_heads"), 8, "the head after row 8 was removed"),
    "another key named": (
        sql("update audit_log set key_id = 'ffff' where seq = 4"),
        3,
        "row 4 was made with key ffff, which the key ring lacks",
    ),
    "another key named in the head": (
        sql("update audit_heads set key_id = 'ffff'"),
        8,
        "the head was sealed with key ffff, which the key ring lacks",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(services: Services, written: UUID, intruder: Connection, damage: str) -> None:
    tamper, good, problem = DAMAGE[damage]
    tamper(intruder)
    found = verdict(services, written)
    assert found.good == good
    assert found.problem is not None and problem in found.problem


@pytest.mark.parametrize(
    "damage",
    ["the end cut off", "the end cut off and the head set back", "the head removed", "the head set back"],
)
def test_what_is_appended_later_heals_nothing(
    services: Services, written: UUID, intruder: Connection, damage: str
) -> None:
    DAMAGE[damage][0](intruder)
    with capture_logs() as logs:
        write(services, written, 2)
    assert verdict(services, written).problem is not None
    if damage != "the end cut off":  # there the head is the true one, and its rows are missed by `verify`
        assert {line["log_level"] for line in logs} == {"error"}


def test_without_its_key_a_row_cannot_be_checked(
    services: Services, settings: Settings, written: UUID
) -> None:
    elsewhere = settings.model_copy(update={"data_dir": settings.data_dir / "elsewhere"})
    other = Services(elsewhere, services.database, services.storage)
    key_id = rows(services, written)[0].key_id
    problem = f"row 1 was made with key {key_id}, which the key ring lacks"
    assert verdict(other, written) == Verdict(written, 0, head_of(services, written), problem)


def test_a_log_that_was_removed_with_its_head_is_missed_where_there_are_accounts(
    services: Services, written: UUID, intruder: Connection
) -> None:
    make_user(services.database, written)
    assert verdict(services, written).problem is None
    sql("delete from audit_log", "delete from audit_heads")(intruder)
    found = verdict(services, written)
    assert (found.good, found.head) == (0, None)
    assert "there is no log, though there are accounts" in (found.problem or "")


class TestHeadKeptElsewhere:
    def test_shows_an_old_head_put_back_with_its_rows(
        self, services: Services, tenant_id: UUID, intruder: Connection
    ) -> None:
        write(services, tenant_id, 6)
        intruder.execute(text("create table kept as select * from audit_heads"))
        write(services, tenant_id, 2)
        anchor = head_of(services, tenant_id)
        assert verdict(services, tenant_id, anchor).problem is None
        sql(
            "delete from audit_log where seq > 6",
            "delete from audit_heads",
            "insert into audit_heads select * from kept",
        )(intruder)
        assert verdict(services, tenant_id).problem is None  # what the chain alone cannot show
        found = verdict(services, tenant_id, anchor).problem
        assert found == "rows 7 to 8 were removed from the end, and the head set back"

    def test_shows_a_log_that_was_written_anew_with_the_key(
        self, services: Services, written: UUID, intruder: Connection
    ) -> None:
        anchor = head_of(services, written)
        sql("delete from audit_log", "delete from audit_heads")(intruder)
        write(services, written, ROWS + 3)
        assert verdict(services, written).problem is None
        found = verdict(services, written, anchor)
        assert (
            found.problem == f"row {ROWS} is not the one that was kept: the log was written anew up to there"
        )

    def test_shows_a_log_that_was_removed_with_its_head(
        self, services: Services, written: UUID, intruder: Connection
    ) -> None:
        anchor = head_of(services, written)
        sql("delete from audit_log", "delete from audit_heads")(intruder)
        assert verdict(services, written).problem is None
        assert "rows 1 to 8 were removed" in (verdict(services, written, anchor).problem or "")

    def test_is_in_the_log_every_hour(self, services: Services, written: UUID) -> None:
        with capture_logs() as logs:
            assert log_heads(services) == 1
        told = [(line["tenant_id"], line["head"]) for line in logs if line["event"] == "audit head"]
        assert told == [(str(written), str(head_of(services, written)))]


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def verify(database_url: str, settings: Settings) -> Command:
    """`hounsfield audit verify`."""
    environment = {
        **os.environ,
        "HOUNSFIELD_DATABASE_URL": database_url,
        "HOUNSFIELD_DATA_DIR": str(settings.data_dir),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-c",
            "from functions.cli import main; main()",
            "audit",
            "verify",
            *arguments,
        ]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    return run


class TestCommand:
    def test_prints_what_to_keep_and_checks_it_later(
        self, services: Services, written: UUID, verify: Command
    ) -> None:
        first = verify("--tenant", str(written))
        kept = first.stdout.split()[-1]
        assert (first.returncode, kept) == (0, str(head_of(services, written)))
        assert f"{ROWS} rows are good" in first.stdout
        write(services, written)
        assert verify("--tenant", str(written), "--at", kept).returncode == 0
        other = verify("--tenant", str(written), "--at", f"{ROWS}:{'00' * 32}")
        assert (other.returncode, "not the one that was kept" in other.stderr) == (1, True)

    def test_exits_1_when_any_tenants_log_is_broken(
        self, services: Services, database: Database, written: UUID, intruder: Connection, verify: Command
    ) -> None:
        write(services, make_tenant(database), 2)
        intruder.execute(text("delete from audit_log where tenant_id = :id and seq = 4"), {"id": written})
        done = verify()
        with database.system() as session:
            tenants = session.scalar(select(func.count()).select_from(Tenant))
        assert (done.returncode, len(done.stdout.splitlines())) == (1, tenants)
        assert "row 4 was removed" in done.stderr

    def test_exits_1_when_a_tenant_with_accounts_has_no_log(
        self, database: Database, verify: Command
    ) -> None:
        make_user(database, make_tenant(database, "robbed"))
        make_tenant(database, "empty")
        done = verify()
        assert (done.returncode, done.stderr.count("there is no log")) == (1, 1)
        assert "robbed: there is no log" in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (("--tenant", "nobody"), "no tenant 'nobody'"),
            (("--at", "8"), "SEQ:HASH"),
            (("--at", "8:xyz"), "SEQ:HASH"),
            (("--at", f"8:{'00' * 32}"), "name it with --tenant"),
        ],
    )
    def test_says_what_it_cannot_work_with(
        self, database: Database, verify: Command, arguments: tuple[str, ...], complaint: str
    ) -> None:
        make_tenant(database)
        make_tenant(database)
        done = verify(*arguments)
        assert (done.returncode, complaint in " ".join(done.stderr.split())) == (2, True), done.stderr
