"""The bus contract. Every adapter passes tests/contract/test_bus.py unchanged."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from shared.db.models import DeadLetter
from shared.runtime.function import Function
from shared.runtime.services import Services


class Consumer(ABC):
    """Delivers events to one function.

    - At least once: an event is done only when its handler's transaction committed; a crash before that delivers
      it again. Effects happen once, since the mark is in that transaction.
    - In order per (topic, key): an event waits while an older one of its key waits, runs or will be retried. A dead
      letter holds up nothing.
    - A failed event is retried with backoff and becomes a dead letter after `max_attempts`.
    """

    @abstractmethod
    def start(self) -> None:
        """Begin delivering."""

    @abstractmethod
    def begin_stop(self) -> None:
        """Take up nothing new from now on; does not wait."""

    @abstractmethod
    def stop(self, timeout: float) -> bool:
        """Take up nothing new and wait for running handlers; False when some still run after `timeout` seconds."""

    @property
    @abstractmethod
    def healthy(self) -> bool:
        """Whether it can deliver (readiness)."""


class DeadLetters(ABC):
    """What functions gave up on."""

    @abstractmethod
    def list(self, limit: int = 100) -> Sequence[DeadLetter]:
        """Newest first."""

    @abstractmethod
    def get(self, id: UUID) -> DeadLetter:
        """One, whole. Raises NotFound."""

    @abstractmethod
    def replay(self, id: UUID) -> None:
        """Deliver the event to its function again, with all its tries, and drop the letter. Raises NotFound."""

    @abstractmethod
    def discard(self, id: UUID) -> None:
        """Drop the letter; the event stays unhandled for good. Raises NotFound."""


class Bus(ABC):
    """Brings emitted events to functions."""

    @abstractmethod
    def consumer(self, function: Function, services: Services, concurrency: int = 1) -> Consumer:
        """A consumer for a function; `concurrency` handlers side by side per lane."""

    @property
    @abstractmethod
    def dead_letters(self) -> DeadLetters:
        """What was given up on."""

    @abstractmethod
    def clean(self, keep: timedelta) -> int:
        """Forget events older than `keep` that every function is done with; returns how many."""
