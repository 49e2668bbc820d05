"""The watched folder, looked at step by step: what counts as a file that is whole."""

import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from functions.ingest.objects import folder, remove_taken
from functions.ingest.objects.folder import STILL_SECONDS, WatchedFolder, prepare
from functions.ingest.objects.sweep import reconcile
from functions.ingest.objects.writers import is_open_for_writing
from functions.studies.changes.service import delete
from shared.db.models import Study
from shared.errors import Unavailable
from shared.incoming import AUTO, take_in
from shared.intake import close
from shared.runtime import Services
from shared.runtime.unit import unit_of_work
from shared.security.principal import Principal
from shared.telemetry.metrics import INCOMING_OBJECTS
from tests.contract.test_incoming_objects import admin, announced, handle, names, slug, studies

__all__ = ["admin", "slug"]


class Watched:
    """A folder and a clock that the test winds."""

    def __init__(self, services: Services, root: Path, *, is_bucket: bool) -> None:
        self.root = root
        self.now = 100.0
        self.folder = WatchedFolder(services, root, is_bucket=is_bucket, clock=lambda: self.now)

    def after(self, seconds: float) -> int:
        """How many files are taken in when it is looked at so much later."""
        self.now += seconds
        return self.folder.look()

    def put(self, path: str, content: bytes = b"voxels") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    def left(self) -> list[str]:
        """Every file that is still there, but hidden ones."""
        files = (file.relative_to(self.root) for file in self.root.rglob("*") if file.is_file())
        return sorted(str(file) for file in files if not file.name.startswith("."))


@pytest.fixture
def watch(services: Services, slug: str) -> Callable[..., Watched]:
    def start(*, is_bucket: bool = True) -> Watched:
        settings = services.settings
        if not is_bucket:
            settings.incoming_dir = settings.data_dir / "elsewhere"
        root, found = prepare(settings, slug)
        assert found is is_bucket
        return Watched(services, root, is_bucket=is_bucket)

    return start


def delete_study(services: Services, study: Study) -> None:
    with unit_of_work(services, study.tenant_id) as unit:
        delete(unit, unit.session.merge(study))


def close_now(services: Services, study: Study) -> None:
    with unit_of_work(services, study.tenant_id) as unit:
        close(unit, study.id)


BOTH = pytest.mark.parametrize("is_bucket", [True, False], ids=["the bucket itself", "another folder"])


def test_on_one_machine_the_folder_is_the_bucket(
    services: Services, watch: Callable[..., Watched], slug: str
) -> None:
    watched = watch()
    link = services.settings.data_dir / "incoming"
    assert link.is_symlink() and link.resolve() == watched.root
    assert sorted(kind.name for kind in (link / slug).iterdir()) == [AUTO, "brain-mri", "ct", "oct", "slide"]
    assert (link / slug).stat().st_mode & 0o777 == 0o700
    assert prepare(services.settings, slug) == (watched.root, True), "again, it changes nothing"


@BOTH
def test_what_is_copied_in_becomes_a_study(
    services: Services,
    admin: Principal,
    slug: str,
    watch: Callable[..., Watched],
    is_bucket: bool,
    tmp_path: Path,
) -> None:
    watched = watch(is_bucket=is_bucket)
    for name in ("1.dcm", "sub/2.dcm"):
        (tmp_path / "Doe Jane" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "Doe Jane" / name).write_bytes(b"dicom")
    shutil.copytree(tmp_path / "Doe Jane", watched.root / slug / "ct" / "Doe Jane")
    assert watched.after(0) == 0
    assert watched.after(STILL_SECONDS) == 2
    assert watched.after(STILL_SECONDS) == 0
    handle(services, admin.tenant_id)
    [study] = studies(services, admin.tenant_id)
    assert names(services, study) == ["1.dcm", "sub/2.dcm"]
    stays = [f"{slug}/ct/Doe Jane/1.dcm", f"{slug}/ct/Doe Jane/sub/2.dcm"] if is_bucket else []
    assert watched.left() == ["README.txt", *stays]
    assert [ref.size for ref in services.storage.list_objects("incoming", f"{slug}/ct/Doe")] == [5, 5]
    assert reconcile(services, grace=timedelta(0)).objects["accepted"] == 0


@BOTH
def test_a_file_that_grows_is_not_taken(
    services: Services, watch: Callable[..., Watched], slug: str, is_bucket: bool
) -> None:
    watched = watch(is_bucket=is_bucket)
    file = watched.put(f"{slug}/oct/left.e2e")
    for _ in range(5):
        assert watched.after(STILL_SECONDS * 0.9) == 0
        with file.open("ab") as end:
            end.write(b"more")
    assert watched.after(1) == 0
    assert watched.after(STILL_SECONDS) == 1


@BOTH
def test_a_file_that_somebody_has_open_is_not_taken_however_still_it_is(
    services: Services, watch: Callable[..., Watched], slug: str, is_bucket: bool
) -> None:
    watched = watch(is_bucket=is_bucket)
    file = watched.put(f"{slug}/oct/left.e2e")
    with file.open("ab"):
        assert [watched.after(STILL_SECONDS) for _ in range(5)] == [0] * 5
    assert watched.after(0) == 1


def test_reading_a_file_does_not_hold_it_up(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with file.open("rb") as one, file.open("rb"):
        assert not is_open_for_writing(one.fileno())
        with file.open("r+b"):
            assert is_open_for_writing(one.fileno())
        assert not is_open_for_writing(one.fileno())


@BOTH
def test_a_marker_waits_for_files_that_are_still_being_copied(
    services: Services, admin: Principal, watch: Callable[..., Watched], slug: str, is_bucket: bool
) -> None:
    watched = watch(is_bucket=is_bucket)
    watched.put(f"{slug}/ct/a/_COMPLETE")
    watched.put(f"{slug}/ct/a/1.dcm")
    watched.after(0)
    with watched.put(f"{slug}/ct/a/deep/2.dcm").open("ab"):
        assert watched.after(STILL_SECONDS) == 1
        handle(services, admin.tenant_id)
        assert announced(services, admin.tenant_id) == []
    watched.after(STILL_SECONDS)
    handle(services, admin.tenant_id, times=2)
    [study] = studies(services, admin.tenant_id)
    assert announced(services, admin.tenant_id) == [str(study.id)]
    assert len(study.files) == 2


@BOTH
def test_what_is_not_meant_for_us_stays(
    services: Services,
    admin: Principal,
    watch: Callable[..., Watched],
    slug: str,
    is_bucket: bool,
    tmp_path: Path,
) -> None:
    watched = watch(is_bucket=is_bucket)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.e2e").write_bytes(b"x")
    (watched.root / slug / "oct" / "link.e2e").symlink_to(outside / "secret.e2e")
    (watched.root / slug / "ct" / "linked").symlink_to(outside)
    os.mkfifo(watched.root / slug / "ct" / "pipe")
    there = [
        f"{slug}/ct/a/1.dcm.part",
        f"{slug}/ct/a/.hidden",
        f"{slug}/ct/a/Thumbs.db",
        "stray",
        "nobody/ct/a/1.dcm",
    ]
    for path in there:
        watched.put(path)
    watched.after(0)
    watched.after(STILL_SECONDS)
    watched.after(STILL_SECONDS)
    handle(services, admin.tenant_id)
    assert studies(services, admin.tenant_id) == []
    assert all((watched.root / path).exists() for path in there)
    assert (outside / "secret.e2e").exists()


@BOTH
def test_a_start_over_takes_nothing_twice(
    services: Services, admin: Principal, watch: Callable[..., Watched], slug: str, is_bucket: bool
) -> None:
    watched = watch(is_bucket=is_bucket)
    watched.put(f"{slug}/oct/left.e2e")
    watched.after(0)
    watched.after(STILL_SECONDS)
    again = Watched(services, watched.root, is_bucket=is_bucket)
    again.after(0)
    again.after(STILL_SECONDS)
    handle(services, admin.tenant_id)
    assert len(studies(services, admin.tenant_id)) == 1


def test_a_kill_after_the_file_was_sent_and_before_it_was_removed_here_sends_it_once(
    services: Services, admin: Principal, watch: Callable[..., Watched], slug: str
) -> None:
    watched = watch(is_bucket=False)
    key = f"{slug}/oct/left.e2e"
    file = watched.put(key)
    watched.after(0)
    watched.after(STILL_SECONDS)
    assert not file.exists()
    watched.put(key)  # as if it had not been removed
    watched.after(0)
    watched.after(STILL_SECONDS)
    assert not file.exists()
    handle(services, admin.tenant_id)
    assert len(studies(services, admin.tenant_id)) == 1


@contextmanager
def full_disk() -> Iterator[None]:
    """This process cannot write more than a little into any file, for the duration of the block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_files_that_cannot_be_sent_wait_where_they_are(
    services: Services, admin: Principal, watch: Callable[..., Watched], slug: str
) -> None:
    watched = watch(is_bucket=False)
    file = watched.put(f"{slug}/oct/left.e2e", bytes(1_000_000))
    watched.after(0)
    with full_disk():
        watched.now += STILL_SECONDS
        assert not watched.folder.try_to_look()
    assert file.exists()
    assert list(services.storage.list_objects("incoming")) == []
    assert watched.after(0) == 1
    assert not file.exists()
    handle(services, admin.tenant_id)
    assert len(studies(services, admin.tenant_id)) == 1


def refuse(*_: object) -> None:
    raise Unavailable("away")


def test_what_was_sent_and_read_before_it_could_be_told_of_is_not_sent_again(
    services: Services,
    admin: Principal,
    watch: Callable[..., Watched],
    slug: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where the store's own notice was quicker than we, and the database away for a moment."""
    watched = watch(is_bucket=False)
    file = watched.put(key := f"{slug}/oct/left.e2e")
    watched.after(0)
    watched.now += STILL_SECONDS
    with monkeypatch.context() as away:
        away.setattr(folder, "take_in", refuse)
        assert not watched.folder.try_to_look()
    assert file.exists()
    take_in(services, [(key,)], "notice")
    handle(services, admin.tenant_id)
    [study] = studies(services, admin.tenant_id)
    remove_taken(services, admin.tenant_id, study.id, [key])
    watched.after(0)
    assert not file.exists()
    assert list(services.storage.list_objects("incoming")) == []
    handle(services, admin.tenant_id)
    assert len(studies(services, admin.tenant_id)) == 1


def test_a_file_that_is_replaced_after_it_was_taken_is_taken_again(
    services: Services, admin: Principal, watch: Callable[..., Watched], slug: str
) -> None:
    watched = watch()
    file = watched.put(f"{slug}/ct/a/1.dcm", b"old")
    watched.after(0)
    watched.after(STILL_SECONDS)
    handle(services, admin.tenant_id)
    os.utime(file.parent)
    newer = file.with_name("1.dcm.part")
    newer.write_bytes(b"newer and longer")
    newer.rename(file)
    watched.after(0)
    assert watched.after(STILL_SECONDS) == 1
    handle(services, admin.tenant_id)
    [study] = studies(services, admin.tenant_id)
    assert [one.size for one in study.files] == [len(b"newer and longer")]


def test_the_sweep_leaves_a_file_alone_that_is_being_written(
    services: Services, watch: Callable[..., Watched], slug: str
) -> None:
    with watch().put(f"{slug}/oct/left.e2e").open("ab"):
        assert reconcile(services, grace=timedelta(0)).objects == {"young": 1, "ignored": 6}
    assert reconcile(services, grace=timedelta(0)).objects["accepted"] == 1


def told_of(reason: str) -> float:
    """How many files of the folder were left alone for this reason."""
    return INCOMING_OBJECTS.labels("folder", reason)._value.get()


@BOTH
def test_names_that_no_key_can_be_are_told_of_once(
    services: Services, admin: Principal, watch: Callable[..., Watched], slug: str, is_bucket: bool
) -> None:
    watched = watch(is_bucket=is_bucket)
    before = told_of("unreadable")
    latin_1 = os.fsdecode("Müller".encode("latin-1"))
    for path in (
        f"{slug}/ct/{latin_1}/1.dcm",
        f"{slug}/ct/a/two\nlines",
        f"{slug}/ct/a/back\\slash",
        f"{slug}/ct/a/1.dcm",
    ):
        watched.put(path)
    watched.after(0)
    assert watched.after(STILL_SECONDS) == 1
    assert watched.after(STILL_SECONDS) == 0
    assert told_of("unreadable") == before + 3
    handle(services, admin.tenant_id)
    [study] = studies(services, admin.tenant_id)
    assert names(services, study) == ["1.dcm"]


@contextmanager
def no_permission(folder: Path) -> Iterator[None]:
    """Nobody may read the folder while the block runs; root, whom no mode stops, is somebody else meanwhile."""
    before = os.geteuid()
    folder.chmod(0)
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)
        folder.chmod(0o700)


@BOTH
def test_what_may_not_be_read_is_told_of_once_and_taken_when_it_may(
    watch: Callable[..., Watched], slug: str, is_bucket: bool
) -> None:
    watched = watch(is_bucket=is_bucket)
    before = told_of("forbidden")
    watched.put(f"{slug}/ct/a/1.dcm")
    with no_permission(watched.root):
        assert [watched.after(STILL_SECONDS) for _ in range(3)] == [0, 0, 0]
    assert told_of("forbidden") == before + 1
    watched.after(0)
    assert watched.after(STILL_SECONDS) == 1


def test_links_out_of_the_folder_hold_nothing_up(
    services: Services, watch: Callable[..., Watched], slug: str
) -> None:
    watched = watch(is_bucket=False)
    (watched.root / slug / "ct" / "everything").symlink_to("/")
    (watched.root / slug / "ct" / "nothing").symlink_to("/is/not/there")
    file = watched.put(f"{slug}/oct/left.e2e")
    over = threading.Event()
    folder = WatchedFolder(services, watched.root, is_bucket=False)
    thread = threading.Thread(target=folder.watch, args=(over,))
    thread.start()
    try:
        deadline = time.monotonic() + STILL_SECONDS + 5
        while file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        over.set()
        thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("gone", ["made into a study", "its study was deleted", "taken away before"])
def test_a_file_that_comes_back_as_old_as_it_was_is_a_file_again(
    services: Services, admin: Principal, watch: Callable[..., Watched], slug: str, gone: str
) -> None:
    watched = watch()
    key = f"{slug}/ct/a/1.dcm"

    def copy_with_its_time() -> None:
        os.utime(watched.put(key), (1_000_000_000, 1_000_000_000))
        watched.after(0)
        assert watched.after(STILL_SECONDS) == 1

    copy_with_its_time()
    if gone == "taken away before":
        (watched.root / key).unlink()
    handle(services, admin.tenant_id)
    for study in studies(services, admin.tenant_id):
        if gone == "its study was deleted":
            delete_study(services, study)
        else:
            close_now(services, study)
            assert remove_taken(services, admin.tenant_id, study.id, [key]) == 1
            assert remove_taken(services, admin.tenant_id, study.id, [key]) == 0
    before = {study.id for study in studies(services, admin.tenant_id)}
    assert not (watched.root / key).exists()
    copy_with_its_time()
    handle(services, admin.tenant_id)
    [study] = (study for study in studies(services, admin.tenant_id) if study.id not in before)
    assert names(services, study) == ["1.dcm"]
    assert remove_taken(services, admin.tenant_id, next(iter(before), study.id), [key]) == (not before)
    assert reconcile(services, grace=timedelta(0)).objects["accepted"] == 0
