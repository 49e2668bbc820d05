"""A user whose studies the real function takes in, and the files that they are made of."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.config import Settings
from shared.db.session import Database
from shared.runtime import Services
from shared.storage.folder import FolderStorage
from shared.storage.signing import UrlSigner
from tests.intake import Intake, ingesting


@pytest.fixture
def services(database: Database, settings: Settings, tmp_path: Path) -> Services:
    """A folder store, and a folder of its own for temporary files."""
    work = tmp_path / "work"
    work.mkdir()
    settings.work_dir = work
    storage = FolderStorage(settings.objects_dir, UrlSigner(b"secret"), "http://testserver")
    return Services(settings, database, storage)


@pytest.fixture
def intake(services: Services) -> Iterator[Intake]:
    """Ingest at work. Whatever a test did, no temporary file is left."""
    with ingesting(services):
        yield Intake(services)
    assert services.settings.work_dir is not None
    assert list(services.settings.work_dir.iterdir()) == []
