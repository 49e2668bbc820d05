"""HTTPS without a proxy in front."""

import datetime as dt
import ipaddress
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from functions import auth
from functions.upload import storage_routes
from shared.config import Settings
from shared.db.session import Database
from shared.errors import Conflict
from shared.http.server import make_server
from shared.runtime.function import Function
from shared.runtime.services import Services
from shared.security.keys import key_store
from shared.storage.factory import make_storage
from shared.storage.folder import FolderStorage
from shared.storage.signing import Grant, UrlSigner
from tests.conftest import open_folder
from tests.contract.test_bus import eventually
from tests.serving import serving


@dataclass(frozen=True)
class Pair:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""

    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hounsfield test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem, encryption = serialization.Encoding.PEM, serialization.NoEncryption()
    pair = Pair(folder / "certificate.pem", folder / "key.pem")
    pair.certificate.write_bytes(certificate.public_bytes(pem))
    pair.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption))
    return pair


@pytest.fixture
def secured(settings: Settings, pair: Pair) -> Services:
    """Services of an installation with the certificate."""
    changed = settings.model_copy(update={"tls_cert_file": pair.certificate, "tls_key_file": pair.key})
    nowhere = Database("postgresql+psycopg2://nowhere")
    return Services(changed, nowhere, make_storage(changed, "https://localhost", bytes(32)))


def test_it_answers_over_tls_and_tells_browsers_to_stay_there(secured: Services, pair: Pair) -> None:
    trust = ssl.create_default_context(cafile=str(pair.certificate))
    with serving(secured, [auth.function]) as port, httpx.Client(verify=trust, trust_env=False) as client:
        answer = client.get(f"https://127.0.0.1:{port}/api/healthz")
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_a_large_part_of_an_upload_comes_whole_over_tls(secured: Services, pair: Pair) -> None:
    store, data = secured.storage, os.urandom(5_000_000)
    assert isinstance(store, FolderStorage)
    keys = secured.once(key_store)
    signer = UrlSigner(lambda: keys.secrets(storage_routes.SIGNING))
    upload_id = store.start_multipart("incoming", "a")
    path = signer.sign(Grant("part", "incoming", "a", upload_id=upload_id, number=1), dt.timedelta(hours=1))
    trust = ssl.create_default_context(cafile=str(pair.certificate))
    routes = Function("storage", router=storage_routes.router)
    with serving(secured, [routes]) as port, httpx.Client(verify=trust, trust_env=False) as client:
        assert client.put(f"https://127.0.0.1:{port}{path}", content=data).status_code == 200
    store.complete_multipart("incoming", "a", upload_id, store.list_parts("incoming", "a", upload_id))
    assert store.read("incoming", "a") == data


def test_nothing_older_than_tls_1_2_is_spoken(secured: Services) -> None:
    context = make_server(lambda *_: None, secured.settings).config.ssl
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_who_speaks_plain_http_there_gets_nothing(secured: Services) -> None:
    with serving(secured, [auth.function]) as port, pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{port}/api/healthz", trust_env=False)


def test_a_key_that_does_not_fit_is_named_before_anything_is_served(
    settings: Settings, pair: Pair, tmp_path: Path
) -> None:
    for certificate, key in ((pair.certificate, tmp_path / "none.pem"), (pair.key, pair.key)):
        files = {"tls_cert_file": certificate, "tls_key_file": key}
        with pytest.raises(Conflict, match=f"HTTPS cannot be served with {certificate} and {key}"):
            make_server(lambda *_: None, settings.model_copy(update=files))


@contextmanager
def silent(port: int, count: int, address: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """Connections from there that say nothing at all."""
    with ExitStack() as stack:
        where = ("127.0.0.1", port)
        connected = [
            socket.create_connection(where, timeout=10, source_address=(address, 0)) for _ in range(count)
        ]
        yield [stack.enter_context(connection) for connection in connected]


def is_let_go(connection: socket.socket) -> bool:
    """Whether the server hung up."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
def test_connections_count_before_their_handshake(secured: Services, pair: Pair, address: str) -> None:
    few = secured.settings.model_copy(update={"max_connections": 20, "head_seconds": 60.0})
    limited = Services(few, secured.database, secured.storage)
    with serving(limited, [auth.function]) as port, silent(port, 300, address) as connections:
        assert healthy(port, pair)
        assert sum(not is_let_go(connection) for connection in connections) <= 20


def test_a_handshake_that_does_not_come_is_not_waited_for(secured: Services, pair: Pair) -> None:
    hasty = secured.settings.model_copy(update={"head_seconds": 1.0})
    with (
        serving(Services(hasty, secured.database, secured.storage), [auth.function]) as port,
        silent(port, 1) as (connection,),
    ):
        started = time.monotonic()
        assert connection.recv(1) == b""
        assert 0.9 < time.monotonic() - started < 3


def test_a_stop_waits_for_no_handshake(secured: Services) -> None:
    with ExitStack() as stack:
        port = stack.enter_context(serving(secured, [auth.function]))
        with silent(port, 3):
            time.sleep(0.2)
            started = time.monotonic()
            stack.close()
            assert time.monotonic() - started < 3


def test_more_connections_than_there_may_be_open_files_are_refused_at_start(settings: Settings) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = settings.model_copy(update={"max_connections": before[1]})
    with pytest.raises(Conflict, match=f"HOUNSFIELD_MAX_CONNECTIONS={before[1]} needs"):
        make_server(lambda *_: None, many)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_the_limit_of_open_files_is_raised_as_far_as_is_needed(settings: Settings) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (700, before[1]))
    try:
        make_server(lambda *_: None, settings)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= settings.max_connections + 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_up_and_its_mails_name_where_it_listens(pair: Pair) -> None:
    """By https, and the port that was free; it warns where it listens on every address, which leads nowhere."""
    email = "chief@hospital.example"
    environment = {
        **os.environ,
        "HOUNSFIELD_TLS_CERT_FILE": str(pair.certificate),
        "HOUNSFIELD_TLS_KEY_FILE": str(pair.key),
        "HOUNSFIELD_MODEL_URL": "http://127.0.0.1:9",
        "HOUNSFIELD_ADMIN_EMAIL": email,
        "HOUNSFIELD_ADMIN_PASSWORD": "a long pass phrase",
    }
    with open_folder() as folder:
        command = [sys.executable, "-c", "from functions.cli import main; main()", "up"]
        command += ["--data-dir", str(folder / "data"), "--host", "0.0.0.0", "--port", "0"]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        try:
            said = ""
            while not (found := re.search(r"Hounsfield is at (https://0\.0\.0\.0:([1-9][0-9]*)) ", said)):
                said += (line := process.stdout.readline())
                assert line, said
            assert "HOUNSFIELD_PUBLIC_URL" in said
            url, port = found[1], int(found[2])
            assert healthy(port, pair)
            with client_of(pair) as client:
                client.post(f"https://127.0.0.1:{port}/api/auth/reset-password", json={"email": email})
            eventually(lambda: any(folder.glob("data/mail/2*.eml")))
            (mail,) = folder.glob("data/mail/2*.eml")
            assert f"\n{url}/reset-password#token=" in mail.read_bytes().decode().replace("\r", "")
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        assert process.returncode == 0


def client_of(pair: Pair) -> httpx.Client:
    trust = ssl.create_default_context(cafile=str(pair.certificate))
    return httpx.Client(verify=trust, trust_env=False)


def healthy(port: int, pair: Pair) -> bool:
    with client_of(pair) as client:
        return client.get(f"https://127.0.0.1:{port}/api/healthz").status_code == 200
