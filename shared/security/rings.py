"""Key rings: several keys for one purpose, of which the newest is used and the others still count."""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from errno import ENOENT
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.security.ring_folder import OLDEST, KeyFile, KeyFolder, Listing, RingName

log = structlog.get_logger(__name__)

CHECK_SECONDS = 0.5
"""Least time between two looks into the folder."""
SECRET_BYTES = 32
PATIENT_NAMES = "patient-names"
"""Purpose under which names were sealed before they had a ring."""

T = TypeVar("T")


class Secret(NamedTuple):
    """A secret and what it is known by."""

    key_id: str
    secret: bytes


@dataclass(frozen=True)
class RingKey(Generic[T]):
    """One key of a ring."""

    id: str
    value: T
    file: KeyFile
    derived: bool = False
    """Whether it is derived from a file of another ring, not that file itself."""


@dataclass(frozen=True)
class Rings:
    """Every ring of a folder at one moment, each oldest first."""

    signing: tuple[RingKey[Ed25519PrivateKey], ...] = ()
    names: tuple[RingKey[bytes], ...] = ()
    audit: tuple[RingKey[bytes], ...] = ()
    root: tuple[RingKey[bytes], ...] = ()


class Ring(Generic[T]):
    """One ring as it is now."""

    def __init__(
        self,
        name: RingName,
        rings: Callable[[bool], tuple[RingKey[T], ...]],
        make: Callable[[], None],
        clock: Callable[[], datetime],
    ) -> None:
        """`rings(fresh)`: the keys; `make()`: makes the first one, or raises what says how to."""
        self.name = name
        self._keys = rings
        self._make = make
        self.now = clock

    def kept(self, fresh: bool = False) -> tuple[RingKey[T], ...]:
        """Every key, oldest first, keys whose time is still to come among them."""
        return self._keys(fresh)

    @property
    def current(self) -> RingKey[T]:
        """The newest key whose time has come. Raises FileNotFoundError where there is none and none may be made."""
        kept = self._keys(False)
        if all(key.derived for key in kept):
            self._make()
            kept = self._keys(True)
        return kept[self._place(kept)]

    def old(self) -> tuple[tuple[RingKey[T], datetime], ...]:
        """The keys that are used for nothing new, each with the moment from when on its successor was used."""
        kept = self._keys(True)
        before = kept[: self._place(kept)] if kept else ()
        return tuple((key, after.file.begins) for key, after in zip(before, kept[1:], strict=False))

    def waiting(self) -> tuple[RingKey[T], ...]:
        """The keys whose time is to come."""
        kept = self._keys(True)
        return kept[self._place(kept) + 1 :]

    def _place(self, kept: tuple[RingKey[T], ...]) -> int:
        now = self.now()
        return max(sum(key.file.begins <= now for key in kept) - 1, 0)

    def find(self, key_id: str) -> RingKey[T] | None:
        """The key with this id; an id that is not known is looked for in the folder first."""
        for fresh in (False, True):
            for key in self._keys(fresh):
                if key.id == key_id:
                    return key
        return None


class SecretRing(Ring[bytes]):
    """A ring of 32-byte secrets."""

    @property
    def newest(self) -> Secret:
        """The secret to use now."""
        key = self.current
        return Secret(key.id, key.value)

    def get(self, key_id: str) -> bytes | None:
        """The secret with this id, used now or before; None when the ring has no such key."""
        key = self.find(key_id)
        return key.value if key else None


class WatchedRings:
    """The rings of a folder, read again soon after it changed."""

    def __init__(self, folder: KeyFolder, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: Listing | None = None
        self._complaint: str | None = None
        self._rings = Rings()
        self._looked = float("-inf")

    def now(self, fresh: bool = False) -> Rings:
        """The rings; `fresh`: as they are at this moment, else as they were half a second ago at most.

        A folder that was read once and then cannot be, or lost a whole ring, leaves the rings as they were; audit keys
        are never forgotten.
        Raises OSError and ValueError the first time.
        """
        if not fresh and self._clock() - self._looked < CHECK_SECONDS:
            return self._rings
        with self._lock:
            self._looked = self._clock()
            try:
                self._look(self._folder.listing())
            except (OSError, ValueError) as error:
                if self._seen is None:
                    raise
                if str(error) != self._complaint:
                    log.error("the key folder cannot be used; keys stay as they were", why=str(error))
                self._complaint = str(error)
        return self._rings

    def _look(self, listing: Listing) -> None:
        if listing != self._seen:
            rings = load(self._folder, listing.files)
            _require_no_loss(self._rings, rings)
            # A row under an older key, after one under this, would look like a forgery for ever.
            audit = {key.id: key for key in (*self._rings.audit, *rings.audit)}
            rings = replace(rings, audit=tuple(sorted(audit.values(), key=lambda key: key.file)))
            self._rings, self._seen, self._complaint = rings, listing, None


def load(folder: KeyFolder, files: tuple[KeyFile, ...]) -> Rings:
    """Read every key. Raises ValueError for a file that does not hold what its name says."""
    signing = tuple(_signing_key(folder, file) for file in files if file.ring == "signing")
    # Before there were rings, everything was derived from the one signing key, `signing.pem`.
    legacy = [key for key in signing if key.file.begins == OLDEST]
    raw = [(key.file, key.value.private_bytes_raw()) for key in legacy]

    def ring(name: RingName, inherited: list[RingKey[bytes]]) -> tuple[RingKey[bytes], ...]:
        own = [_secret_key(folder, file) for file in files if file.ring == name]
        return (*inherited, *own)

    return Rings(
        signing,
        ring("names", [_derived(derive(key, PATIENT_NAMES), file) for file, key in raw]),
        ring("audit", []),
        ring("root", [_derived(key, file) for file, key in raw]),
    )


@lru_cache(maxsize=256)
def derive(raw: bytes, purpose: str) -> bytes:
    """32 bytes that only holders of `raw` can derive, others for each purpose (HKDF-SHA256, RFC 5869)."""
    return HKDF(hashes.SHA256(), SECRET_BYTES, salt=None, info=f"hounsfield/{purpose}".encode()).derive(raw)


def new_content(ring: RingName) -> bytes:
    """What a new key's file holds."""
    if ring != "signing":
        return secrets.token_hex(SECRET_BYTES).encode() + b"\n"
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def utc_now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


def missing_key(folder: KeyFolder, ring: RingName) -> FileNotFoundError:
    """What to tell where a ring is empty and may not be filled."""
    advice = f"no key there; `hounsfield keys rotate {ring} --keys-dir FOLDER` makes one"
    return FileNotFoundError(ENOENT, advice, str(folder.path / KeyFile(OLDEST, ring).name))


def public_key_id(key: Ed25519PublicKey) -> str:
    """The first 16 hex digits of the public key's sha256."""
    return _sha256(key.public_bytes_raw())[:8].hex()


def secret_id(secret: bytes) -> str:
    """The first 8 hex digits of a hash of the secret that says nothing else of it."""
    return _sha256(b"hounsfield/key-id" + secret)[:4].hex()


def _signing_key(folder: KeyFolder, file: KeyFile) -> RingKey[Ed25519PrivateKey]:
    content = folder.read(file)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it asks for a password
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(folder, file, "an Ed25519 private key as PEM without a password")
    return RingKey(public_key_id(key.public_key()), key, file)


def _secret_key(folder: KeyFolder, file: KeyFile) -> RingKey[bytes]:
    try:
        secret = bytes.fromhex(folder.read(file).decode())
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise _unusable(folder, file, f"{SECRET_BYTES} bytes in hexadecimal")
    return RingKey(secret_id(secret), secret, file)


def _unusable(folder: KeyFolder, file: KeyFile, wanted: str) -> ValueError:
    return ValueError(
        f"{folder.path / file.name} does not hold {wanted}: put it back from a backup, or remove it if nothing was"
        " made with it yet"
    )


def _derived(secret: bytes, file: KeyFile) -> RingKey[bytes]:
    return RingKey(secret_id(secret), secret, file, derived=True)


def _require_no_loss(before: Rings, after: Rings) -> None:
    for name in vars(before):
        if getattr(before, name) and not getattr(after, name):
            raise ValueError(f"every {name} key is gone")


def _sha256(content: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(content)
    return digest.finalize()
