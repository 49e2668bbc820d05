"""What was fetched from elsewhere, kept for a while."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.errors import Unavailable

T = TypeVar("T")
FRESH_SECONDS = 3600.0
REST_SECONDS = 10.0


@dataclass(frozen=True)
class _Fetched(Generic[T]):
    value: T
    stale_from: float


class Kept(Generic[T]):
    """What `fetch` returned, for an hour.

    When fetching fails, what was there before serves on. A failure is remembered for ten seconds: callers are told at
    once then, and do not each wait for somebody who is away.
    """

    def __init__(self, fetch: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._fetched: _Fetched[T] | None = None
        self._failure = ""
        self._rests_until = float("-inf")

    def get(self) -> T:
        """The value. Raises Unavailable as `fetch` does."""
        before = self._fetched
        if before is not None and self._clock() < before.stale_from:
            return before.value
        if before is not None and self._lock.locked():
            return before.value  # another thread renews it
        with self._lock:
            if self._fetched is not before and self._fetched is not None:
                return self._fetched.value  # another thread did while this one waited
            try:
                return self._renewed()
            except Unavailable:
                if before is None:
                    raise
                return before.value

    def renew(self) -> T:
        """The value, fetched now. Raises Unavailable."""
        with self._lock:
            return self._renewed()

    def _renewed(self) -> T:
        if self._clock() < self._rests_until:
            raise Unavailable(self._failure)
        try:
            value = self._fetch()
        except Unavailable as error:
            self._failure = error.detail
            self._rests_until = self._clock() + REST_SECONDS
            raise
        self._fetched = _Fetched(value, self._clock() + FRESH_SECONDS)
        return value
