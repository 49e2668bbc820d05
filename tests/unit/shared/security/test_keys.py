"""The platform's keys."""

import json
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.config import Settings
from shared.db.models import Role
from shared.db.session import Database
from shared.errors import Conflict, Unauthenticated, Unavailable
from shared.ids import uuid7
from shared.runtime.services import Services
from shared.security.keys import KeyStore, key_store, token_issuer, token_verifier
from shared.security.principal import Credential, CredentialKind, Principal
from shared.security.ring_folder import RINGS
from shared.security.rings import public_key_id
from shared.storage.factory import make_storage
from tests.contract.test_bus import eventually

ANNA = Principal(uuid7(), uuid7(), Role.DOCTOR, Credential(CredentialKind.TOKEN, uuid7()))


def make_services(settings: Settings) -> Services:
    """Services whose database is never connected to."""
    database = Database("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    return Services(settings, database, make_storage(settings, "http://127.0.0.1", b"secret"))


def old_installation(data_dir: Path) -> Ed25519PrivateKey:
    """The one key that there was before there were rings."""
    key = Ed25519PrivateKey.generate()
    (data_dir / "keys").mkdir()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (data_dir / "keys" / "signing.pem").write_bytes(pem)
    return key


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return make_services(Settings(data_dir=tmp_path))


class KeyServer(HTTPServer):
    """Answers every GET with `body` and counts the requests."""

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.body = body
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/jwks.json"


class _Answer(BaseHTTPRequestHandler):
    server: KeyServer

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""


@pytest.fixture
def key_server(services: Services) -> Iterator[KeyServer]:
    """Publishes the keys of `services`."""
    server = KeyServer(json.dumps(services.once(key_store).jwks()).encode())
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: KeyStore(settings).private_key.private_bytes_raw(), range(8)))
    assert len(keys) == 1
    (file,) = (tmp_path / "keys").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_key_that_is_missing_in_a_configured_folder_is_not_made_but_asked_for(tmp_path: Path) -> None:
    store = KeyStore(Settings(keys_dir=tmp_path / "keys"))
    for ring in store.rings:
        with pytest.raises(FileNotFoundError, match=f"hounsfield keys rotate {ring.name}") as missing:
            _ = ring.current
        assert f"{ring.name}." in missing.value.filename
    assert not list(tmp_path.iterdir())


def test_a_configured_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "signing.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ValueError, match="Ed25519"):
        _ = KeyStore(Settings(keys_dir=tmp_path)).private_key


def test_every_ring_can_be_filled_at_once(tmp_path: Path) -> None:
    store = KeyStore(Settings(data_dir=tmp_path))
    store.complete()
    store.complete()
    assert [len(ring.kept()) for ring in store.rings] == [1, 1, 1, 1]


def test_secrets_differ_by_purpose_and_by_key(tmp_path: Path) -> None:
    one, another = (KeyStore(Settings(data_dir=tmp_path / name)) for name in "ab")
    assert len({one.secret("x"), one.secret("y"), another.secret("x")}) == 3
    assert one.secret("x") == one.secret("x")
    assert len(one.secret("x")) == 32


def test_a_rotation_of_the_signing_key_leaves_derived_secrets_as_they_are(tmp_path: Path) -> None:
    store = KeyStore(Settings(data_dir=tmp_path))
    before = store.secrets("x")
    for ring in RINGS:
        if ring != "root":
            store.rotate(ring)
    assert KeyStore(Settings(data_dir=tmp_path)).secrets("x") == before


def test_a_rotation_of_the_root_puts_a_new_secret_before_the_old_one(tmp_path: Path) -> None:
    store = KeyStore(Settings(data_dir=tmp_path))
    before = store.secret("x")
    store.rotate("root")
    new, old = KeyStore(Settings(data_dir=tmp_path)).secrets("x")
    assert old == before != new


def test_an_installation_from_before_there_were_rings_goes_on(tmp_path: Path) -> None:
    key = old_installation(tmp_path)
    store = KeyStore(Settings(data_dir=tmp_path))
    store.complete()
    derived = HKDF(hashes.SHA256(), 32, salt=None, info=b"hounsfield/storage-urls").derive(
        key.private_bytes_raw()
    )
    assert store.private_key.private_bytes_raw() == key.private_bytes_raw()
    assert store.secret("storage-urls") != derived
    assert derived in store.secrets("storage-urls")
    store.rotate("signing")
    again = KeyStore(Settings(data_dir=tmp_path))
    assert again.jwks()["keys"][0]["kid"] == public_key_id(key.public_key())
    assert again.private_key.private_bytes_raw() != key.private_bytes_raw()


def test_one_old_key_in_a_configured_folder_serves_for_everything_but_the_audit_log(tmp_path: Path) -> None:
    key = old_installation(tmp_path)
    store = KeyStore(Settings(keys_dir=tmp_path / "keys"))
    info = b"hounsfield/patient-names"
    derived = HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(key.private_bytes_raw())
    assert store.names.newest.secret == derived
    with pytest.raises(FileNotFoundError, match="keys rotate audit"):
        _ = store.audit_ring.newest


def test_tokens_outlive_a_rotation_and_other_processes_learn_of_it(services: Services) -> None:
    other = make_services(services.settings)
    before = services.once(token_issuer).issue(ANNA)
    other.once(token_verifier).verify(before)
    KeyStore(services.settings).rotate("signing")
    eventually(lambda: len({kid(services.once(token_issuer).issue(ANNA)), kid(before)}) == 2)
    after = services.once(token_issuer).issue(ANNA)
    fresh = make_services(services.settings)
    for token in (before, after):
        assert fresh.once(token_verifier).verify(token) == ANNA
    assert {kid(before), kid(after)} == {key["kid"] for key in other.once(key_store).jwks()["keys"]}


def test_a_key_with_a_time_is_published_at_once_and_used_later(tmp_path: Path) -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    store = KeyStore(Settings(data_dir=tmp_path), clock=lambda: now)
    first = store.signing.current.id
    store.rotate("signing", after=timedelta(minutes=5))
    assert len(store.jwks()["keys"]) == 2
    assert store.signing.current.id == first
    now += timedelta(minutes=5)
    assert store.signing.current.id == store.jwks()["keys"][1]["kid"] != first


def test_a_new_key_is_the_newest_even_where_the_clock_went_back(tmp_path: Path) -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    store = KeyStore(Settings(data_dir=tmp_path), clock=lambda: now)
    store.complete()
    now -= timedelta(hours=1)
    (made,) = store.rotate("names")
    assert store.names.kept(fresh=True)[-1] == made
    now += timedelta(hours=1, seconds=1)
    assert store.names.newest.secret == made.value


def test_a_key_is_not_queued_behind_one_that_waits(tmp_path: Path) -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    store = KeyStore(Settings(data_dir=tmp_path), clock=lambda: now)
    store.complete()
    (waiting,) = store.rotate("names", after=timedelta(days=7))
    before = set(store.folder.path.iterdir())
    with pytest.raises(
        Conflict, match=f"{waiting.file.name} waits to be used from 2026-11-28 00:00 UTC; remove"
    ):
        store.rotate("signing", "names")
    assert set(store.folder.path.iterdir()) == before
    store.folder.remove(waiting.file)
    now += timedelta(seconds=1)
    assert store.rotate("names") == (store.names.current,)


def test_a_key_that_waits_behind_what_was_derived_counts_as_waiting(tmp_path: Path) -> None:
    old_installation(tmp_path)
    store = KeyStore(Settings(data_dir=tmp_path))
    store.rotate("names", after=timedelta(hours=1))
    with pytest.raises(Conflict):
        store.rotate("names")


def test_the_published_keys_hold_no_private_half(services: Services) -> None:
    (key,) = services.once(key_store).jwks()["keys"]
    assert set(key) == {"kty", "crv", "x", "kid", "alg", "use"}
    assert key["kid"] == public_key_id(services.once(key_store).private_key.public_key())


def test_a_function_without_the_private_key_checks_tokens_by_the_published_keys(
    services: Services, key_server: KeyServer, tmp_path: Path
) -> None:
    elsewhere = make_services(Settings(data_dir=tmp_path / "elsewhere", jwks_url=key_server.url))
    token = services.once(token_issuer).issue(ANNA)
    assert elsewhere.once(token_verifier).verify(token) == ANNA
    assert elsewhere.once(token_verifier).verify(token) == ANNA
    assert key_server.requests == 1


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"keys": []}'])
def test_keys_that_cannot_be_understood_are_not_the_callers_fault(
    services: Services, key_server: KeyServer, tmp_path: Path, body: bytes
) -> None:
    key_server.body = body
    elsewhere = make_services(Settings(data_dir=tmp_path / "elsewhere", jwks_url=key_server.url))
    with pytest.raises(Unavailable):
        elsewhere.once(token_verifier).verify(services.once(token_issuer).issue(ANNA))


def test_keys_that_cannot_be_fetched_are_not_the_callers_fault(services: Services, tmp_path: Path) -> None:
    elsewhere = make_services(Settings(data_dir=tmp_path, jwks_url="http://127.0.0.1:1/jwks.json"))
    with pytest.raises(Unavailable):
        elsewhere.once(token_verifier).verify(services.once(token_issuer).issue(ANNA))


@pytest.mark.parametrize("shared", [False, True], ids=["in the same process", "in another process"])
def test_a_token_of_a_new_key_is_good_at_once_whatever_was_asked_for_before(
    services: Services, shared: bool
) -> None:
    verifying = make_services(services.settings) if shared else services
    verifier, signing = verifying.once(token_verifier), services.once(key_store).signing
    verifier.verify(services.once(token_issuer).issue(ANNA))
    made_up = jwt.encode({}, services.once(key_store).private_key, "EdDSA", headers={"kid": "made-up"})
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            verifier.verify(made_up)
        services.once(key_store).rotate("signing")
        token = services.once(token_issuer).issue(ANNA)
        assert kid(token) == signing.kept()[-1].id
        assert verifier.verify(token) == ANNA


def test_a_token_of_a_removed_key_is_refused_soon(services: Services) -> None:
    verifier, folder = services.once(token_verifier), services.once(key_store).folder
    before = services.once(token_issuer).issue(ANNA)
    services.once(key_store).rotate("signing")
    folder.remove(folder.listing().files[0])
    eventually(lambda: not verifier.has_key_of(before))
    with pytest.raises(Unauthenticated):
        verifier.verify(before)
    assert verifier.verify(services.once(token_issuer).issue(ANNA)) == ANNA


def test_a_folder_without_a_signing_key_is_told_of_where_tokens_are_checked(tmp_path: Path) -> None:
    services = make_services(Settings(data_dir=tmp_path, keys_dir=tmp_path / "keys"))
    with pytest.raises(FileNotFoundError, match="keys rotate signing"):
        services.once(token_verifier)
