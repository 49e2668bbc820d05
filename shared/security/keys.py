"""The platform's keys: rings that sign access tokens, seal patient names and chain the audit log, and secrets derived
for every other purpose.

Keys are files of one folder (`shared.security.ring_folder`), and several processes may share it: each heeds within a
second what another added or removed.
"""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from shared.config import Settings
from shared.errors import Unavailable
from shared.runtime.services import Services
from shared.security.principal import Principal
from shared.security.revocations import revocations
from shared.security.ring_folder import KeyFile, KeyFolder, RingName
from shared.security.rings import (
    Ring,
    RingKey,
    SecretRing,
    WatchedRings,
    derive,
    missing_key,
    new_content,
    public_key_id,
    utc_now,
)
from shared.security.tokens import TokenIssuer, TokenVerifier

key_id = public_key_id
"""What a signing key is known by: `kid` of its tokens."""


class KeyStore:
    """The key rings of one deployment.

    A folder that the settings name is never written to by itself: there a missing key raises FileNotFoundError with
    the command that makes it. In DATA_DIR/keys the first key of a ring is made when it is first needed.
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self.folder = KeyFolder(settings.keys_dir or settings.data_dir / "keys")
        self._may_make = settings.keys_dir is None
        self._clock = clock
        self._watched = watched = WatchedRings(self.folder)
        self.signing: Ring[Ed25519PrivateKey] = Ring(
            "signing", lambda fresh: watched.now(fresh).signing, lambda: self._make_first("signing"), clock
        )
        """Signs access tokens."""
        self.names = self._secrets("names", lambda fresh: watched.now(fresh).names)
        """Seals patient names."""
        self.audit_ring = self._secrets("audit", lambda fresh: watched.now(fresh).audit)
        """Chains the audit log; every key is kept for ever."""
        self.root = self._secrets("root", lambda fresh: watched.now(fresh).root)
        """What `secrets` derives from; a rotation of the other rings leaves those as they are."""

    @property
    def rings(self) -> tuple[Ring[Any], ...]:
        """Every ring."""
        return (self.signing, self.names, self.audit_ring, self.root)

    @property
    def private_key(self) -> Ed25519PrivateKey:
        """The key that signs access tokens now."""
        return self.signing.current.value

    def secrets(self, purpose: str) -> tuple[bytes, ...]:
        """Secrets for a purpose, the one to use first, then those that what was made before may still be good by."""
        current = self.root.current
        others = [key.value for key in reversed(self.root.kept()) if key.id != current.id]
        return tuple(derive(raw, purpose) for raw in (current.value, *others))

    def secret(self, purpose: str) -> bytes:
        """The secret to use for a purpose now: 32 bytes."""
        return derive(self.root.current.value, purpose)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public half of every signing key, as a JSON Web Key Set."""
        _ = self.signing.current
        return {"keys": [_public(key) for key in self.signing.kept(fresh=True)]}

    def complete(self) -> None:
        """Make sure that every ring has a key. Raises FileNotFoundError as the rings do."""
        for ring in self.rings:
            _ = ring.current

    def rotate(self, ring: RingName, after: timedelta = timedelta()) -> KeyFile:
        """Add a key to a ring, used from now on or after some time; two writers at once add two."""
        with self.folder.locked():
            return self._add(ring, after)

    def _secrets(self, name: RingName, kept: Callable[[bool], tuple[RingKey[bytes], ...]]) -> SecretRing:
        return SecretRing(name, kept, lambda: self._make_first(name), self._clock)

    def _make_first(self, ring: RingName) -> None:
        """The first key of a ring; of two writers the first wins, and the second takes what is there then."""
        if not self._may_make:
            if not getattr(self._watched.now(fresh=True), ring):
                raise missing_key(self.folder, ring)
            return  # what is derived from the signing key serves
        with self.folder.locked():
            if not any(file.ring == ring for file in self.folder.listing().files):
                self._add(ring, timedelta())

    def _add(self, ring: RingName, after: timedelta) -> KeyFile:
        """A key is younger than all others of its ring, whatever this machine's clock says."""
        others = [file.begins for file in self.folder.listing().files if file.ring == ring]
        begins = max([self._clock() + after, *(other + timedelta(microseconds=1) for other in others)])
        file = KeyFile(begins, ring)
        self.folder.add(file, new_content(ring))
        return file


class NewestKeyIssuer:
    """Signs each access token with the signing key that is the newest then."""

    def __init__(self, ring: Ring[Ed25519PrivateKey], minutes: int) -> None:
        self._ring = ring
        self._minutes = minutes
        self.lifetime = timedelta(minutes=minutes)

    def issue(self, principal: Principal) -> str:
        """A token for `principal`, valid from now for `lifetime`."""
        key = self._ring.current
        return TokenIssuer(key.value, key.id, self._minutes).issue(principal)


def key_store(services: Services) -> KeyStore:
    """The process's key store (`services.once(key_store)`)."""
    return KeyStore(services.settings)


def token_issuer(services: Services) -> NewestKeyIssuer:
    """Signs access tokens; only the auth function needs it."""
    return NewestKeyIssuer(services.once(key_store).signing, services.settings.access_token_minutes)


def token_verifier(services: Services) -> TokenVerifier:
    """Checks access tokens, with the keys of JWKS_URL or else of the local folder."""
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


def _public(key: RingKey[Ed25519PrivateKey]) -> dict[str, str]:
    public: dict[str, str] = json.loads(OKPAlgorithm.to_jwk(key.value.public_key()))
    return {**public, "kid": key.id, "alg": "EdDSA", "use": "sig"}
