"""From a claimed event to its outcome. The one place that catches every exception: it logs, counts, and decides
between another try and a dead letter."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.exc import DBAPIError

from shared.errors import HounsfieldError, Unavailable
from shared.events.base import Envelope
from shared.events.codec import from_structured
from shared.runtime.backoff import Backoff
from shared.runtime.function import Function, Handler
from shared.runtime.inbox import Claim, bury, give_back, mark_done, renew
from shared.runtime.outcomes import LeaseLost, Reject, Retry
from shared.runtime.services import Services
from shared.runtime.unit import unit_of_work
from shared.runtime.work import LongWork
from shared.telemetry.metrics import EVENT_SECONDS, EVENTS_HANDLED
from shared.telemetry.trace import traced

log = structlog.get_logger(__name__)


class Processor:
    """Runs claimed events of one function."""

    def __init__(self, function: Function, services: Services, stopping: threading.Event) -> None:
        settings = services.settings
        self._function = function
        self._services = services
        self._stopping = stopping
        self._lease = timedelta(seconds=settings.lease_seconds)
        self._max_crashes = settings.max_crashes
        self._patience = timedelta(seconds=settings.patience_seconds)
        self._backoff = Backoff(
            timedelta(seconds=settings.retry_base_seconds),
            timedelta(seconds=settings.retry_cap_seconds),
            settings.max_attempts,
        )

    def process(self, claim: Claim) -> str:
        """Handle one event; returns the outcome: done, retried, dead or lost."""
        started = time.monotonic()
        with traced(claim.traceparent):
            outcome = self._outcome(claim)
            EVENT_SECONDS.labels(self._function.name, claim.type).observe(time.monotonic() - started)
            EVENTS_HANDLED.labels(self._function.name, claim.type, outcome).inc()
        return outcome

    def _outcome(self, claim: Claim) -> str:
        envelope: Envelope | None = None
        try:
            if claim.crashes >= self._max_crashes:
                raise Reject(f"its worker died {claim.crashes} times while handling it")
            envelope = _decoded(claim)
            self._handle(claim, envelope)
            return "done"
        except LeaseLost:
            log.warning("lease lost", function=claim.function, event_id=str(claim.event_id))
            return "lost"
        except Exception as error:
            return self._after_failure(claim, envelope, error)

    def _handle(self, claim: Claim, envelope: Envelope) -> None:
        handler = self._handler(envelope)
        if handler is None:  # a topic may carry types that this function has no interest in
            self._finish_empty(claim)
        elif handler.long:
            work = LongWork(claim, self._services, self._stopping)
            with self._renewing(claim):
                handler.run(envelope.data, work)
            if not work.finished:
                self._finish_empty(claim)
        else:
            with unit_of_work(self._services, claim.tenant_id) as unit:
                mark_done(unit.session, claim)
                handler.run(envelope.data, unit)

    def _handler(self, envelope: Envelope) -> Handler | None:
        return self._function.handlers.get(type(envelope.data))

    def _finish_empty(self, claim: Claim) -> None:
        with unit_of_work(self._services, claim.tenant_id) as unit:
            mark_done(unit.session, claim)

    @contextmanager
    def _renewing(self, claim: Claim) -> Iterator[None]:
        """Renew the lease in the background while the block runs."""
        over = threading.Event()

        def keep() -> None:
            while not over.wait(self._lease.total_seconds() / 3):
                try:
                    with self._services.database.system() as session:
                        if not renew(session, claim, self._lease):
                            return
                except Exception as error:  # the database may be back before the lease runs out
                    log.warning("lease not renewed", error=type(error).__name__)

        thread = threading.Thread(target=keep, name=f"renew-{claim.event_id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _after_failure(self, claim: Claim, envelope: Envelope | None, error: Exception) -> str:
        context = {
            "function": claim.function,
            "event_id": str(claim.event_id),
            "type": claim.type,
            "attempt": claim.attempt,
        }
        try:
            wait = self._wait(claim, envelope, error)
            if wait is not None:
                after, failed = wait
                self._give_back(claim, after, failed=failed)
                why = {"exc_info": error} if failed else {"reason": _for_users(error)}
                log.warning("event will be delivered again", **why, **context)
                return "retried"
            self._bury(claim, envelope, error)
            log.error("event is a dead letter", exc_info=error, **context)
            return "dead"
        except LeaseLost:
            return "lost"
        except Exception:  # the database is away: the lease will run out and the event come again
            log.exception("outcome not recorded", **context)
            return "lost"

    def _wait(
        self, claim: Claim, envelope: Envelope | None, error: Exception
    ) -> tuple[timedelta, bool] | None:
        """How long until the next try, and whether this one counts as failed; None when there is no next try."""
        if isinstance(error, Retry):
            return error.after, False
        if isinstance(error, Reject):
            return None
        if self._stopping.is_set():  # what breaks while everything is being closed is not the event's fault
            return timedelta(0), False
        if isinstance(error, Unavailable) and envelope is not None:
            # Something else is away. That is no failure of this event, however often; but not for ever.
            patient = datetime.now(UTC) - envelope.time < self._patience
            return (self._backoff.delay(claim.attempt), False) if patient else None
        tries = claim.failures + 1
        return None if self._backoff.exhausted(tries) else (self._backoff.delay(tries), True)

    def _give_back(self, claim: Claim, after: timedelta, *, failed: bool) -> None:
        with unit_of_work(self._services, claim.tenant_id) as unit:
            give_back(unit.session, claim, after, failed=failed)

    def _bury(self, claim: Claim, envelope: Envelope | None, error: Exception) -> None:
        handler = self._handler(envelope) if envelope else None
        message = _for_operators(error)
        if envelope is not None and handler is not None and handler.on_dead is not None:
            try:
                with unit_of_work(self._services, claim.tenant_id) as unit:
                    bury(unit.session, claim, message)
                    handler.on_dead(envelope.data, unit, _for_users(error))
                return
            except LeaseLost:
                raise
            except Exception as second:
                log.exception("nobody could be told of a dead letter", event_id=str(claim.event_id))
                message += f"; telling whoever waits for it failed too: {_for_operators(second)}"
        with unit_of_work(self._services, claim.tenant_id) as unit:
            bury(unit.session, claim, message)


def _decoded(claim: Claim) -> Envelope:
    try:
        return from_structured(claim.stored)
    except HounsfieldError as error:
        raise Reject(error.detail) from error


def _for_users(error: Exception) -> str:
    """Only errors that were written for a reader are shown to one."""
    if isinstance(error, Retry | Reject | HounsfieldError):
        return str(error)
    return f"internal error ({type(error).__name__})"


def _for_operators(error: Exception) -> str:
    """The message as well, except the database's: it quotes the data that it refused."""
    if isinstance(error, Reject | HounsfieldError):
        return str(error)
    if isinstance(error, DBAPIError):
        return f"{type(error).__name__}: {type(error.orig).__name__} {getattr(error.orig, 'pgcode', '')}"
    return f"{type(error).__name__}: {error}"
