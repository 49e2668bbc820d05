"""The platform's keys: rings that sign access tokens, seal patient names and chain the audit log, and secrets derived
for every other purpose.

Keys are files of one folder (`shared.security.ring_folder`), and several processes may share it: each heeds within a
second what another added or removed.
"""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from shared.config import Settings
from shared.errors import Conflict
from shared.runtime.services import Services
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
    utc_now,
)
from shared.security.token_keys import PublishedKeys, RingKeys, fetch_key_set
from shared.security.tokens import TokenIssuer, TokenVerifier


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

    def rotate(self, *names: RingName, after: timedelta = timedelta()) -> tuple[RingKey[Any], ...]:
        """Add a key to each of these rings, used from now on or after some time; two writers at once add two.

        Raises Conflict, and adds none, where a key of one of them waits already: the new one would come after it.
        """
        rings = [ring for ring in self.rings if ring.name in names]
        with self.folder.locked():
            for key in (key for ring in rings for key in ring.waiting()):
                raise Conflict(
                    f"{self.folder.path / key.file.name} waits to be used from {key.file.begins:%Y-%m-%d %H:%M}"
                    " UTC; remove it to have another key in its place"
                )
            made = {self._add(ring.name, after) for ring in rings}
        return tuple(key for ring in rings for key in ring.kept(fresh=True) if key.file in made)

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


def key_store(services: Services) -> KeyStore:
    """The process's key store (`services.once(key_store)`)."""
    return KeyStore(services.settings)


def token_issuer(services: Services) -> TokenIssuer:
    """Signs each access token with the key to use then; only the auth function needs it."""
    ring = services.once(key_store).signing
    return TokenIssuer(lambda: ring.current, services.settings.access_token_minutes)


def token_verifier(services: Services) -> TokenVerifier:
    """Checks access tokens, with the keys of JWKS_URL or else of the local folder."""
    url = services.settings.jwks_url
    is_revoked = services.once(revocations).covers
    if url is not None:
        return TokenVerifier(PublishedKeys(lambda: fetch_key_set(url)), is_revoked)
    ring = services.once(key_store).signing
    _ = ring.current  # an empty folder is told of, instead of every token being refused
    return TokenVerifier(RingKeys(ring), is_revoked)


def _public(key: RingKey[Ed25519PrivateKey]) -> dict[str, str]:
    public: dict[str, str] = json.loads(OKPAlgorithm.to_jwk(key.value.public_key()))
    return {**public, "kid": key.id, "alg": "EdDSA", "use": "sig"}
