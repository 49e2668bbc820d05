"""From a claimed event to its outcome. The one place that catches every exception: it logs, counts, and decides
between another try and a dead letter."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog

from shared.errors import HounsfieldError
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
        self._backoff = Backoff(
            timedelta(seconds=settings.retry_base_seconds),
            timedelta(seconds=settings.retry_cap_seconds),
            settings.max_attempts,
        )

    def process(self, claim: Claim) -> str:
        """Handle one event; returns the outcome: done, retried, dead or lost."""
        event = claim.envelope.data
        started = time.monotonic()
        with traced(claim.envelope.traceparent):
            outcome = self._outcome(claim)
            EVENT_SECONDS.labels(self._function.name, event.type).observe(time.monotonic() - started)
            EVENTS_HANDLED.labels(self._function.name, event.type, outcome).inc()
        return outcome

    def _outcome(self, claim: Claim) -> str:
        handler = self._function.handlers.get(type(claim.envelope.data))
        try:
            if claim.crashes >= self._max_crashes:
                raise Reject(f"its worker died {claim.crashes} times while handling it")
            if handler is None:  # a topic may carry types that this function has no interest in
                self._finish_empty(claim)
            elif handler.long:
                self._run_long(handler, claim)
            else:
                self._run_short(handler, claim)
            return "done"
        except LeaseLost:
            log.warning("lease lost", function=claim.function, event_id=str(claim.envelope.id))
            return "lost"
        except Exception as error:
            return self._after_failure(handler, claim, error)

    def _run_short(self, handler: Handler, claim: Claim) -> None:
        with unit_of_work(self._services, claim.envelope.tenant_id) as unit:
            mark_done(unit.session, claim)
            handler.run(claim.envelope.data, unit)

    def _run_long(self, handler: Handler, claim: Claim) -> None:
        work = LongWork(claim, self._services, self._stopping)
        with self._renewing(claim):
            handler.run(claim.envelope.data, work)
        if not work.finished:
            self._finish_empty(claim)

    def _finish_empty(self, claim: Claim) -> None:
        with unit_of_work(self._services, claim.envelope.tenant_id) as unit:
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

        thread = threading.Thread(target=keep, name=f"renew-{claim.envelope.id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _after_failure(self, handler: Handler | None, claim: Claim, error: Exception) -> str:
        context = {
            "function": claim.function,
            "event_id": str(claim.envelope.id),
            "type": claim.envelope.data.type,
            "attempt": claim.attempt,
        }
        try:
            if isinstance(error, Retry):
                self._give_back(claim, error.after, failed=False)
                log.info("event given back", reason=str(error), **context)
                return "retried"
            if not isinstance(error, Reject) and not self._backoff.exhausted(claim.failures + 1):
                self._give_back(claim, self._backoff.delay(claim.failures + 1), failed=True)
                log.warning("event failed, will be retried", exc_info=error, **context)
                return "retried"
            self._bury(handler, claim, error)
            log.error("event is a dead letter", exc_info=error, **context)
            return "dead"
        except LeaseLost:
            return "lost"
        except Exception:  # the database is away: the lease will run out and the event come again
            log.exception("outcome not recorded", **context)
            return "lost"

    def _give_back(self, claim: Claim, after: timedelta, *, failed: bool) -> None:
        with unit_of_work(self._services, claim.envelope.tenant_id) as unit:
            give_back(unit.session, claim, after, failed=failed)

    def _bury(self, handler: Handler | None, claim: Claim, error: Exception) -> None:
        told = isinstance(error, Reject | HounsfieldError)  # these say themselves what is wrong
        message = str(error) if told else f"{type(error).__name__}: {error}"
        with unit_of_work(self._services, claim.envelope.tenant_id) as unit:
            bury(unit.session, claim, message)
            if handler is not None and handler.on_dead is not None:
                handler.on_dead(claim.envelope.data, unit, message)
