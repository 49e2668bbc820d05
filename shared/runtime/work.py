"""Long work: a handler that runs outside a transaction, under a lease that is renewed while it lives."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event as Flag
from uuid import UUID

from shared.runtime.inbox import Claim, hold, mark_done
from shared.runtime.outcomes import Retry
from shared.runtime.services import Services
from shared.runtime.unit import UnitOfWork, unit_of_work


class LongWork:
    """What a `long=True` handler gets in place of a unit: it opens short units itself.

    Every unit first makes sure that this worker still holds the event and raises LeaseLost otherwise, so that
    two workers never write for the same event.
    """

    def __init__(self, claim: Claim, services: Services, stopping: Flag) -> None:
        self._claim = claim
        self._stopping = stopping
        self.services = services
        self.finished = False

    @property
    def tenant_id(self) -> UUID:
        """Tenant of the event."""
        return self._claim.tenant_id

    @property
    def attempt(self) -> int:
        """Which try of the event this is, from 1."""
        return self._claim.attempt

    @contextmanager
    def unit(self) -> Iterator[UnitOfWork]:
        """A short transaction in the middle of the work."""
        with unit_of_work(self.services, self.tenant_id) as unit:
            hold(unit.session, self._claim)
            yield unit

    @contextmanager
    def final_unit(self) -> Iterator[UnitOfWork]:
        """The last transaction: its changes and the mark that the event is done commit together."""
        with unit_of_work(self.services, self.tenant_id) as unit:
            mark_done(unit.session, self._claim)
            yield unit
        self.finished = True

    def pause_point(self) -> None:
        """Between steps: give the event back when the process is stopping. Raises Retry."""
        if self._stopping.is_set():
            raise Retry(timedelta(0), "the worker is stopping")
