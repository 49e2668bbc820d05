"""HTTPS without a proxy in front."""

import datetime as dt
import ipaddress
import os
import signal
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from functions import auth
from shared.config import Settings
from shared.db.session import Database
from shared.errors import Conflict
from shared.http.server import make_server
from shared.runtime.services import Services
from shared.storage.factory import make_storage
from tests.conftest import open_folder
from tests.integration.installation import free_port
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


def test_up_says_https(pair: Pair) -> None:
    port = free_port()
    environment = {
        **os.environ,
        "HOUNSFIELD_TLS_CERT_FILE": str(pair.certificate),
        "HOUNSFIELD_TLS_KEY_FILE": str(pair.key),
        "HOUNSFIELD_MODEL_URL": "http://127.0.0.1:9",
    }
    with open_folder() as folder:
        command = [sys.executable, "-c", "from functions.cli import main; main()", "up"]
        command += ["--data-dir", str(folder / "data"), "--port", str(port)]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        try:
            said = next(line for line in process.stdout if "Hounsfield is at" in line)
            assert f"https://127.0.0.1:{port}" in said
            assert healthy(port, pair)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        assert process.returncode == 0


def healthy(port: int, pair: Pair) -> bool:
    trust = ssl.create_default_context(cafile=str(pair.certificate))
    with httpx.Client(verify=trust, trust_env=False) as client:
        return client.get(f"https://127.0.0.1:{port}/api/healthz").status_code == 200
