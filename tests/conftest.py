"""What all tests share: a real PostgreSQL, a database of its own for each test, real data when it is there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import hypothesis
import pytest
import structlog
from sqlalchemy import create_engine, text

from shared.config import Settings
from shared.db.embedded import EmbeddedPostgres
from shared.db.migrations import upgrade
from shared.db.session import Database
from shared.ids import uuid7
from shared.telemetry.tracebacks import write_traceback
from tests.builders import make_tenant

# How long an example takes says more of the machine's load than of the code.
hypothesis.settings.register_profile(
    "hounsfield", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("hounsfield")

# Logs of a failed test as a server writes them: structlog's own tracebacks print local variables, minutes of them.
structlog.configure(
    processors=[
        structlog.stdlib.add_log_level,
        structlog.dev.ConsoleRenderer(exception_formatter=write_traceback),
    ]
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """One embedded server for the whole run, its default database migrated as a template."""
    with open_folder() as folder:
        server = EmbeddedPostgres(folder / "data")
        upgrade(server.url)
        yield server
        server.stop()


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder outside pytest's own, which every run of pytest closes to other users: PostgreSQL, started
    by root, runs as one."""
    with TemporaryDirectory(prefix="hounsfield-test-") as folder:
        yield Path(folder)


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A fresh migrated database, dropped afterwards."""
    with fresh_database(postgres) as url:
        yield url


@contextmanager
def fresh_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A copy of the server's default database, which nothing must write to: it is every test's template."""
    name = f"test_{uuid7().hex}"
    admin = create_engine(postgres.url.replace("/hounsfield?", "/postgres?"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"create database {name} template hounsfield"))
    yield postgres.url.replace("/hounsfield?", f"/{name}?")
    with admin.connect() as connection:
        connection.execute(text(f"drop database {name} with (force)"))
    admin.dispose()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Sessions on a fresh database."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of one machine with quick retries."""
    return Settings(
        data_dir=tmp_path / "data",
        retry_base_seconds=0.05,
        retry_cap_seconds=0.2,
        lease_seconds=3,
        max_attempts=3,
    )


@pytest.fixture
def tenant_id(database: Database) -> UUID:
    """A tenant."""
    return make_tenant(database)


@pytest.fixture(scope="session")
def hounsfield_data() -> Path:
    """The folder of real images, or a loud skip."""
    named = os.environ.get("HOUNSFIELD_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "brain3d").is_dir():
        pytest.skip("REAL DATA MISSING: set HOUNSFIELD_DATA to the folder of real images")
    return folder
