"""What all tests share: a real PostgreSQL, a database of its own for each test, real data when it is there."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import create_engine, text

from shared.config import Settings
from shared.db.embedded import EmbeddedPostgres
from shared.db.migrations import upgrade
from shared.db.session import Database
from shared.ids import uuid7
from tests.builders import make_tenant


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One embedded server for the whole run, its default database migrated as a template."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "data")
    upgrade(server.url)
    yield server
    server.stop()


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A fresh migrated database, dropped afterwards."""
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
        reason = "REAL DATA MISSING: set HOUNSFIELD_DATA to the folder of real images"
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    return folder
