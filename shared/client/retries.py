"""When a call is made again, and how long that waits."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

AWAY = frozenset({408, 429, 502, 503, 504})
"""Answers of a server, or of what stands before it, that will be well again."""
FEW_TRIES = 4
"""Other errors of the server (500, …) are mostly mistakes, and the next try fails as well."""


@dataclass(frozen=True)
class Patience:
    """How long a call is tried again. Delays double from `first` to `cap`, half of each left to chance. All in seconds."""

    seconds: float = 600
    first: float = 0.5
    cap: float = 30


class Waiting:
    """The tries of one call: `pause` after each of them that failed."""

    def __init__(
        self,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        passing: frozenset[int] = AWAY,
    ) -> None:
        """`passing`: the statuses of what will be well again."""
        self._patience = patience
        self._passing = passing
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._since = 0.0

    def pause(self, status: int | None, retry_after: str | None = None) -> float | None:
        """Seconds until the next try; None when that would be of no use. `status` is None where nothing answered."""
        # A conflict that names a time is with our own first try, whose answer was lost.
        away = status is None or status in self._passing or (status == 409 and retry_after is not None)
        if not away and status is not None and status < 500:
            return None
        self._failures += 1
        if self._failures == 1:
            self._since = self._clock()
        if not away and self._failures >= FEW_TRIES:
            return None
        delay = max(self._delay(), _seconds(retry_after))
        return delay if self._clock() - self._since + delay <= self._patience.seconds else None

    def _delay(self) -> float:
        full = min(self._patience.first * 2.0 ** min(self._failures - 1, 30), self._patience.cap)
        return full * (0.5 + 0.5 * self._chance())


def _seconds(retry_after: str | None) -> float:
    """Of a Retry-After header (RFC 9110 §10.2.3): a number or a date; 0 for anything else."""
    if retry_after is None:
        return 0
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
