"""The platform's keys: the Ed25519 pair that signs access tokens, and secrets derived for other purposes."""

import json
import os
import secrets
from functools import cached_property
from pathlib import Path

import httpx
import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwt.algorithms import OKPAlgorithm

from shared.config import Settings
from shared.errors import Unavailable
from shared.runtime.services import Services
from shared.security.revocations import revocations
from shared.security.tokens import TokenIssuer, TokenVerifier


class KeyStore:
    """Keys of one deployment, in the file that the settings name; made when missing on one machine."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.signing_key_file or settings.data_dir / "keys" / "signing.pem"
        self._may_make = settings.signing_key_file is None

    @cached_property
    def private_key(self) -> Ed25519PrivateKey:
        """The signing key. Raises FileNotFoundError when a configured file is missing."""
        if self._may_make and not self._path.exists():
            _write_secret(self._path, _pem(Ed25519PrivateKey.generate()))
        key = serialization.load_pem_private_key(self._path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{self._path} does not hold an Ed25519 private key")
        return key

    def secret(self, purpose: str) -> bytes:
        """32 bytes that only holders of the signing key can derive, others for each purpose (HKDF-SHA256)."""
        raw = self.private_key.private_bytes_raw()
        return HKDF(hashes.SHA256(), 32, salt=None, info=f"hounsfield/{purpose}".encode()).derive(raw)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public key as a JSON Web Key Set."""
        key: dict[str, str] = json.loads(OKPAlgorithm.to_jwk(self.private_key.public_key()))
        return {"keys": [{**key, "kid": key_id(self.private_key.public_key()), "alg": "EdDSA", "use": "sig"}]}


def key_id(key: Ed25519PublicKey) -> str:
    """The first 16 hex digits of the public key's sha256."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes_raw())
    return digest.finalize().hex()[:16]


def key_store(services: Services) -> KeyStore:
    """The process's key store (`services.once(key_store)`)."""
    return KeyStore(services.settings)


def token_issuer(services: Services) -> TokenIssuer:
    """Signs access tokens; only the auth function needs it."""
    key = services.once(key_store).private_key
    return TokenIssuer(key, key_id(key.public_key()), services.settings.access_token_minutes)


def token_verifier(services: Services) -> TokenVerifier:
    """Checks access tokens, with the keys of JWKS_URL or else of the local file."""
    url = services.settings.jwks_url
    is_revoked = services.once(revocations).covers
    if url is None:
        local = services.once(key_store)
        return TokenVerifier(lambda: jwt.PyJWKSet.from_dict(local.jwks()), is_revoked=is_revoked)
    return TokenVerifier(lambda: _fetch_key_set(url), is_revoked=is_revoked)


def _fetch_key_set(url: str) -> jwt.PyJWKSet:
    try:
        published = httpx.get(url, timeout=5).raise_for_status().json()
        return jwt.PyJWKSet(published["keys"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError, jwt.PyJWTError):
        raise Unavailable("the keys that access tokens are checked with cannot be fetched now") from None


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads, whole or not at all; the first of two writers wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        temporary.unlink()
