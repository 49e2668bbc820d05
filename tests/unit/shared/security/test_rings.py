"""Key rings as their folder changes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from structlog.testing import capture_logs

from shared.config import Settings
from shared.security.keys import KeyStore
from shared.security.ring_folder import OLDEST, KeyFile, KeyFolder, Listing
from shared.security.rings import CHECK_SECONDS, WatchedRings, new_content, secret_id

LOCKED = Ed25519PrivateKey.generate().private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
)
FIRST, SECOND = (KeyFile(datetime(2026, 11, day, tzinfo=UTC), "names") for day in (1, 2))


class CountingFolder(KeyFolder):
    """A folder that counts how often it is looked into."""

    looks = 0

    def listing(self) -> Listing:
        self.looks += 1
        return super().listing()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> CountingFolder:
    folder = CountingFolder(tmp_path)
    folder.add(FIRST, new_content("names"))
    return folder


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watched(folder: CountingFolder, clock: Clock) -> WatchedRings:
    return WatchedRings(folder, clock)


def test_the_folder_is_looked_into_twice_a_second_at_most(
    watched: WatchedRings, folder: CountingFolder, clock: Clock
) -> None:
    for _ in range(1000):
        watched.now()
        clock.now += CHECK_SECONDS / 500
    assert folder.looks == 2
    watched.now(fresh=True)
    assert folder.looks == 3


def test_a_key_that_somebody_else_adds_is_seen_soon(
    watched: WatchedRings, folder: CountingFolder, clock: Clock
) -> None:
    assert len(watched.now().names) == 1
    folder.add(SECOND, new_content("names"))
    assert len(watched.now().names) == 1
    clock.now += CHECK_SECONDS
    assert [key.file for key in watched.now().names] == [FIRST, SECOND]


@pytest.mark.parametrize("content", [b"", b"no key", b"ab" * 31, b"ab" * 33, b"\xff" * 64])
def test_a_file_that_holds_no_key_is_named_at_first_and_changes_nothing_later(
    watched: WatchedRings, folder: CountingFolder, content: bytes
) -> None:
    before = watched.now()
    folder.add(SECOND, content)
    with pytest.raises(ValueError, match=f"{SECOND.name} does not hold 32 bytes"):
        WatchedRings(folder).now()
    with capture_logs() as logs:
        assert watched.now(fresh=True) == before
        assert watched.now(fresh=True) == before
    (error,) = logs
    assert SECOND.name in error["why"]
    folder.remove(SECOND)
    folder.add(SECOND, new_content("names"))
    assert len(watched.now(fresh=True).names) == 2


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", LOCKED]
)
def test_a_pem_file_that_holds_no_key_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "signing.pem").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"signing\.pem does not hold an Ed25519 .* put it back from a backup"
    ):
        WatchedRings(KeyFolder(tmp_path)).now()


def test_a_ring_that_is_lost_while_a_process_runs_is_not_made_anew(tmp_path: Path) -> None:
    store = KeyStore(Settings(data_dir=tmp_path))
    store.complete()
    before = store.names.newest
    for path in store.folder.path.iterdir():
        path.unlink()
    with capture_logs() as logs:
        assert store.names.kept(fresh=True)[0].value == store.names.newest.secret == before.secret
    assert "gone" in logs[0]["why"]
    assert not list(store.folder.path.iterdir())


def test_an_audit_key_that_is_away_for_a_moment_is_used_all_the_same(tmp_path: Path) -> None:
    store = KeyStore(Settings(data_dir=tmp_path))
    store.complete()
    store.rotate("audit")
    newest = store.audit_ring.newest
    away = store.folder.path / store.audit_ring.kept(fresh=True)[-1].file.name
    away.rename(tmp_path / "away")
    assert store.audit_ring.kept(fresh=True)
    assert store.audit_ring.newest == newest
    (tmp_path / "away").rename(away)
    assert [key.id for key in store.audit_ring.kept(fresh=True)].count(newest.key_id) == 1


def test_a_secret_is_found_by_its_id_whether_it_is_old_new_or_still_to_come(tmp_path: Path) -> None:
    store = KeyStore(Settings(data_dir=tmp_path))
    store.complete()
    for after in (timedelta(0), timedelta(hours=1)):
        store.rotate("audit", after=after)
    kept = store.audit_ring.kept(fresh=True)
    assert len(kept) == 3
    assert store.audit_ring.newest == (kept[1].id, kept[1].value)
    assert all(store.audit_ring.get(key.id) == key.value for key in kept)
    assert store.audit_ring.get("00000000") is None


def test_an_id_tells_two_secrets_apart_and_is_no_part_of_them() -> None:
    secrets = [bytes([number]) * 32 for number in range(100)]
    assert len({secret_id(secret) for secret in secrets}) == 100
    assert secret_id(bytes(32)) not in bytes(32).hex()


def test_keys_in_waiting_alone_are_used_rather_than_none(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    folder.add(KeyFile(datetime(9999, 1, 1, tzinfo=UTC), "root"), new_content("root"))
    assert len(KeyStore(Settings(keys_dir=tmp_path)).secret("x")) == 32


def test_a_file_without_a_time_is_the_oldest(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    folder.add(SECOND, new_content("names"))
    folder.add(KeyFile(OLDEST, "names"), new_content("names"))
    names = KeyStore(Settings(keys_dir=tmp_path)).names
    assert [key.file for key in names.kept()] == [KeyFile(OLDEST, "names"), SECOND]
    assert names.newest.secret == names.kept()[1].value
