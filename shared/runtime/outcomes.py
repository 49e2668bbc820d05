"""What a handler may raise to say how an event went. Returning means done; any other exception means: try again."""

from datetime import timedelta


class Retry(Exception):
    """Not now: deliver the event again after a while. Does not count as a failed attempt."""

    def __init__(self, after: timedelta, reason: str = "") -> None:
        super().__init__(reason or f"retry after {after}")
        self.after = after


class Reject(Exception):
    """Never: the event cannot be handled, now or later. It becomes a dead letter at once."""


class LeaseLost(Exception):
    """Another worker has the event by now; whatever this one did in the open transaction is rolled back."""
