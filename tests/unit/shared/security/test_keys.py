"""The platform's keys."""

import json
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.config import Settings
from shared.db.models import Role
from shared.db.session import Database
from shared.errors import Unauthenticated, Unavailable
from shared.ids import uuid7
from shared.runtime.services import Services
from shared.security.keys import KeyStore, key_id, key_store, token_issuer, token_verifier
from shared.security.principal import Principal
from shared.security.tokens import TokenVerifier
from shared.storage.factory import make_storage

ANNA = Principal(uuid7(), uuid7(), Role.DOCTOR)


def make_services(settings: Settings) -> Services:
    """Services whose database is never connected to."""
    database = Database("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    return Services(settings, database, make_storage(settings, "http://127.0.0.1", b"secret"))


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


def test_a_configured_key_that_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _ = KeyStore(Settings(signing_key_file=tmp_path / "missing.pem")).private_key
    assert not list(tmp_path.iterdir())


def test_a_configured_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ec.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ValueError, match="Ed25519"):
        _ = KeyStore(Settings(signing_key_file=file)).private_key


def test_secrets_differ_by_purpose_and_by_key(tmp_path: Path) -> None:
    one, another = (KeyStore(Settings(data_dir=tmp_path / name)) for name in "ab")
    assert len({one.secret("x"), one.secret("y"), another.secret("x")}) == 3
    assert one.secret("x") == one.secret("x")
    assert len(one.secret("x")) == 32


def test_the_published_keys_hold_no_private_half(services: Services) -> None:
    (key,) = services.once(key_store).jwks()["keys"]
    assert set(key) == {"kty", "crv", "x", "kid", "alg", "use"}
    assert key["kid"] == key_id(services.once(key_store).private_key.public_key())


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


def test_tokens_with_made_up_key_ids_do_not_fetch_the_keys_each_time(services: Services) -> None:
    now, fetches = 0.0, 0

    def fetch() -> jwt.PyJWKSet:
        nonlocal fetches
        fetches += 1
        return jwt.PyJWKSet.from_dict(services.once(key_store).jwks())

    verifier = TokenVerifier(fetch, clock=lambda: now)
    made_up = jwt.encode({}, services.once(key_store).private_key, "EdDSA", headers={"kid": "made-up"})
    for _ in range(20):
        with pytest.raises(Unauthenticated):
            verifier.verify(made_up)
    assert fetches == 1
    now = 11.0
    with pytest.raises(Unauthenticated):
        verifier.verify(made_up)
    assert fetches == 2
    assert verifier.verify(services.once(token_issuer).issue(ANNA)) == ANNA
