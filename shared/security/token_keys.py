"""Where the keys are from that access tokens are checked with: the key folder, or what another process publishes."""

import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import Unavailable
from shared.security.rings import Ring

REFETCH_SECONDS = 10
"""Least time between two fetches of the key set, so that tokens with made-up key ids cost nothing."""
STALE_SECONDS = 300
"""A key that is no longer published is trusted no longer than this."""


class TokenKeys(Protocol):
    """Public keys by their ids."""

    def has(self, key_id: str) -> bool:
        """Whether `get` answers without waiting."""
        ...

    def get(self, key_id: str) -> Ed25519PublicKey | jwt.PyJWK:
        """The key. Raises KeyError where there is none, Unavailable where that cannot be told now."""
        ...


class RingKeys:
    """The keys of the folder. An id that is not known is looked for there at once, which costs two system calls."""

    def __init__(self, ring: Ring[Ed25519PrivateKey]) -> None:
        self._ring = ring

    def has(self, key_id: str) -> bool:
        """Whether the key is known without a new look into the folder."""
        return any(key.id == key_id for key in self._ring.kept())

    def get(self, key_id: str) -> Ed25519PublicKey:
        """The key. Raises KeyError."""
        if (key := self._ring.find(key_id)) is None:
            raise KeyError(key_id)
        return key.value.public_key()


class PublishedKeys:
    """A key set that is fetched, again when somebody asks for a key that it lacks.

    Not again soon after the last time: a key that is asked for then may be there or not, and the caller has to come
    back. Callers whose key is known never wait and notice nothing.
    """

    def __init__(
        self, fetch: Callable[[], jwt.PyJWKSet], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`fetch()` gives the key set as it is now, or raises Unavailable."""
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched = float("-inf")
        self._lock = threading.Lock()

    def has(self, key_id: str) -> bool:
        """Whether the key is known, and was published lately."""
        return key_id in self._keys and not self._is_stale()

    def get(self, key_id: str) -> jwt.PyJWK:
        """The key. Raises KeyError where the key set, fetched now, lacks it; Unavailable."""
        known = self._keys.get(key_id)
        if known is not None and not self._is_stale():
            return known
        # While one caller fetches, others wait only if nobody could be let in without the answer anyway.
        if not self._lock.acquire(blocking=not self._keys):
            if known is not None:
                return known
            raise _try_again_in(1)
        try:
            return self._fetched_key(key_id)
        finally:
            self._lock.release()

    def _fetched_key(self, key_id: str) -> jwt.PyJWK:
        known = self._keys.get(key_id)
        pause = STALE_SECONDS if known is not None else REFETCH_SECONDS
        age = self._clock() - self._fetched
        if age < pause:
            if known is not None:
                return known
            raise _try_again_in(pause - age)
        self._fetched = self._clock()  # before: a fetch that fails is not repeated at once either
        try:
            self._keys = {key.key_id: key for key in self._fetch().keys}
        except Unavailable:
            if known is not None:
                return known  # what was good before is better than nothing
            raise _try_again_in(REFETCH_SECONDS) from None
        return self._keys[key_id]

    def _is_stale(self) -> bool:
        return self._clock() - self._fetched >= STALE_SECONDS


def fetch_key_set(url: str) -> jwt.PyJWKSet:
    """The JSON Web Key Set at a URL. Raises Unavailable."""
    try:
        published = httpx.get(url, timeout=5).raise_for_status().json()
        return jwt.PyJWKSet(published["keys"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError, jwt.PyJWTError):
        raise Unavailable("the keys that access tokens are checked with cannot be fetched now") from None


def _try_again_in(seconds: float) -> Unavailable:
    return Unavailable(
        "the key that this access token is checked with cannot be fetched now; try again in some seconds",
        headers={"Retry-After": str(math.ceil(seconds))},
    )
