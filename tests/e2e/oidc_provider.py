"""A real OpenID Connect provider for tests, in a process of its own: `oidc_provider_site.py` over TLS on loopback."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.e2e.certificates import Authority

CLIENT_ID, CLIENT_SECRET = "hounsfield", "a secret + of/one%run"
READY_SECONDS = 60


@dataclass(frozen=True)
class Person:
    """Somebody with an account at the provider."""

    name: str
    password: str
    email: str
    groups: tuple[str, ...] = ()


ANNA = Person("anna", "anna's password there", "anna@hospital.example", ("imaging",))
BERT = Person("bert", "bert's password there", "bert@hospital.example")
PEOPLE = (ANNA, BERT)


@dataclass(frozen=True)
class RunningProvider:
    """A provider that answers."""

    issuer: str
    ca_file: Path


@contextmanager
def running_provider(folder: Path, port: int, redirect_uri: str) -> Iterator[RunningProvider]:
    """The provider with its data under `folder`, until the block ends."""
    authority = Authority(folder)
    authority.issue("localhost")
    _write_signing_key(folder / "signing.pem")
    issuer = f"https://localhost:{port}"
    command = [sys.executable, "-m", "tests.e2e.oidc_provider_site", str(folder), str(port), redirect_uri]
    with (folder / "provider.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=Path(__file__).parents[2])
    try:
        _wait_until_it_answers(issuer, authority, process, folder / "provider.log")
        yield RunningProvider(issuer, authority.file)
    finally:
        process.terminate()
        process.wait(20)


def _write_signing_key(file: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _wait_until_it_answers(
    issuer: str, authority: Authority, process: "subprocess.Popen[bytes]", log: Path
) -> None:
    deadline = time.monotonic() + READY_SECONDS
    with httpx.Client(verify=authority.trusted(), trust_env=False) as http:
        while True:
            try:
                http.get(f"{issuer}/.well-known/openid-configuration").raise_for_status()
                return
            except httpx.TransportError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
