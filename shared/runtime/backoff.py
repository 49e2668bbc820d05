"""How long a failed event waits."""

import secrets
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Backoff:
    """Exponential delay with full jitter on its upper half: spread, but never at once."""

    base: timedelta
    cap: timedelta
    max_attempts: int

    def delay(self, attempt: int, random_unit: float | None = None) -> timedelta:
        """Delay before the try after failed try number `attempt` (from 1)."""
        full: timedelta = min(self.base * float(1 << min(attempt - 1, 30)), self.cap)
        return full * (0.5 + 0.5 * (secrets.randbelow(1000) / 1000 if random_unit is None else random_unit))

    def exhausted(self, attempt: int) -> bool:
        """Whether failed try number `attempt` was the last one."""
        return attempt >= self.max_attempts
