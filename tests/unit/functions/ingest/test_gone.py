"""Files and studies that are gone when ingest comes to them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import delete, func, select
from structlog.testing import capture_logs

from functions.ingest.handlers import GIVEN_UP
from functions.ingest.objects.service import take_up
from shared.db.models import InboxEntry, Role, Study, Tenant
from shared.db.models.intake import IncomingObject
from shared.incoming import take_in
from shared.intake import close_settled
from shared.runtime import Services
from shared.runtime.unit import unit_of_work
from shared.storage.folder import FolderStorage
from shared.storage.port import WHOLE, Bucket
from shared.storage.signing import UrlSigner
from tests.builders import make_tenant, make_user
from tests.intake import Intake, ingesting
from tests.unit.functions.ingest.series import ct_series, packed

STUDY = "QUIBBLEWORTH^ZACHARIAS"


@pytest.fixture
def sender(services: Services) -> Intake:
    """Studies that nobody takes in before the test says so."""
    services.settings.settle_seconds = 0
    return Intake(services, make_user(services.database, make_tenant(services.database), Role.ADMIN))


def dropped(sender: Intake, folder: Path) -> tuple[UUID, list[str]]:
    """A CT that somebody put into the drop-box, not closed yet; and the keys of its files."""
    services = sender.services
    with services.database.system() as session:
        slug = session.scalars(select(Tenant.slug).where(Tenant.id == sender.tenant_id)).one()
    keys = []
    for path in sorted(ct_series(folder).iterdir()):
        keys.append(f"{slug}/ct/{STUDY}/{path.name}")
        services.storage.put("incoming", keys[-1], path.read_bytes())
    take_in(services, ((key,) for key in keys), "notice")
    with unit_of_work(services, sender.tenant_id) as unit:
        for object_id in unit.session.scalars(select(IncomingObject.id)):
            take_up(unit, object_id)
        return unit.session.scalars(select(Study.id)).one(), keys


def test_files_that_were_taken_out_of_the_drop_box_reject_the_study(sender: Intake, tmp_path: Path) -> None:
    study_id, keys = dropped(sender, tmp_path / "a")
    for key in keys[1:3]:
        sender.services.storage.delete("incoming", key)
    assert close_settled(sender.services) == 1
    with ingesting(sender.services):
        study = sender.settled(study_id)
    assert (study.status, study.message) == (
        "rejected",
        "2 of 5 files were removed from the drop-box before the study was taken in; put all of them there again",
    )
    assert sender.incoming() == [], "what was left of it is not half a study for ever"


def test_they_may_be_put_there_again(sender: Intake, tmp_path: Path) -> None:
    study_id, keys = dropped(sender, tmp_path / "a")
    for key in keys:
        sender.services.storage.delete("incoming", key)
    close_settled(sender.services)
    with ingesting(sender.services):
        assert sender.settled(study_id).status == "rejected"
    with sender.services.database.tenant(sender.tenant_id) as session:
        session.execute(delete(Study))
    again, _ = dropped(sender, tmp_path / "a")
    close_settled(sender.services)
    with ingesting(sender.services):
        assert sender.settled(again).status == "ingested"


def test_what_we_stored_ourselves_is_never_blamed_on_the_sender(sender: Intake, tmp_path: Path) -> None:
    sender.services.settings.max_attempts = 1
    study_id = sender.send(packed(ct_series(tmp_path / "a"), tmp_path / "a.tar.gz"))
    [key] = sender.incoming()
    sender.services.storage.delete("incoming", key)
    with (
        ingesting(sender.services),
        pytest.raises(AssertionError, match=f"ingest gave up: {GIVEN_UP}"),
    ):
        sender.settled(study_id)


class Watched(FolderStorage):
    """Somebody does something at the moment when ingest opens the first file."""

    then: Callable[[], None]

    @contextmanager
    def local_path(self, bucket: Bucket, key: str, name: str = WHOLE) -> Iterator[Path]:
        self.then()
        with super().local_path(bucket, key, name) as path:
            yield path


@pytest.mark.parametrize("removed", [True, False], ids=["objects removed", "objects still there"])
def test_a_study_that_is_deleted_meanwhile_ends_quietly(
    sender: Intake, tmp_path: Path, removed: bool
) -> None:
    services = sender.services
    storage = Watched(services.settings.objects_dir, UrlSigner(b"secret"), "http://testserver")
    services.storage = storage
    study_id = sender.send(packed(ct_series(tmp_path / "a"), tmp_path / "a.tar.gz"))
    [key] = sender.incoming()

    def delete_it() -> None:
        with services.database.tenant(sender.tenant_id) as session:
            session.execute(delete(Study).where(Study.id == study_id))
        if removed:
            storage.delete("incoming", key)

    storage.then = delete_it
    with capture_logs() as logs, ingesting(services):
        deadline = time.monotonic() + 30
        while not handled(services):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert [entry for entry in logs if entry["log_level"] != "info"] == []
    assert sender.objects(study_id) == []


def handled(services: Services) -> int:
    """How many events ingest has done with."""
    with services.database.system() as session:
        return session.scalars(select(func.count()).where(InboxEntry.state == "done")).one()
