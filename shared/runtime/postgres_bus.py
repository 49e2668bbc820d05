"""The bus of one machine: outbox rows are the queue, NOTIFY wakes, SKIP LOCKED claims."""

import threading
import time
from datetime import timedelta

import structlog
from sqlalchemy import delete, insert, literal, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from shared.db.models import InboxEntry, OutboxEntry, Subscription
from shared.db.session import Database
from shared.runtime.bus import Bus, Consumer
from shared.runtime.function import Function
from shared.runtime.inbox import claim_next
from shared.runtime.postgres_dead_letters import PostgresDeadLetters
from shared.runtime.postgres_listener import POLL_SECONDS, Listener
from shared.runtime.processing import Processor
from shared.runtime.services import Services

log = structlog.get_logger(__name__)


class PostgresBus(Bus):
    """Delivers straight from the database; no broker. One per process: its listener is the process's heartbeat."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listener = Listener(database)

    def consumer(self, function: Function, services: Services, concurrency: int = 1) -> "PostgresConsumer":
        """A consumer that works under the process's identity."""
        return PostgresConsumer(function, services, concurrency, self._listener)

    @property
    def dead_letters(self) -> PostgresDeadLetters:
        """Dead letters of all functions."""
        return PostgresDeadLetters(self._database)

    def clean(self, keep: timedelta) -> int:
        """Drop outbox rows older than `keep` that no function still has to handle; their inbox rows go with them."""
        old = text(
            "delete from outbox o where o.created_at < now() - :keep "
            "and not exists (select from inbox i where i.event_id = o.id and i.state <> 'done') returning o.id"
        )
        with self._database.system() as session:
            return len(session.scalars(old, {"keep": keep}).all())


class PostgresConsumer(Consumer):
    """Worker threads for each lane of a function."""

    def __init__(self, function: Function, services: Services, concurrency: int, listener: Listener) -> None:
        self._function = function
        self._database = services.database
        self._listener = listener
        self._lease = timedelta(seconds=services.settings.lease_seconds)
        self._stopping = threading.Event()
        self._processor = Processor(function, services, self._stopping)
        lanes = [lane for lane in function.lanes() for _ in range(concurrency)]
        self._wakes = [threading.Event() for _ in lanes]
        self._threads = [
            threading.Thread(
                target=self._work, args=(lane, wake), name=f"{function.name}-{lane[0]}", daemon=True
            )
            for lane, wake in zip(lanes, self._wakes, strict=True)
        ]

    def start(self) -> None:
        """Subscribe, then listen and work."""
        with self._database.system() as session:
            subscribe(session, self._function)
        self._listener.join(self._wakes)
        for thread in self._threads:
            thread.start()

    def begin_stop(self) -> None:
        """See Consumer."""
        self._stopping.set()
        for wake in self._wakes:
            wake.set()

    def stop(self, timeout: float) -> bool:
        """See Consumer. The process's identity goes last, so that nobody takes over what still runs."""
        self.begin_stop()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        drained = not any(thread.is_alive() for thread in self._threads)
        if drained:
            self._listener.leave(self._wakes)
        return drained

    @property
    def healthy(self) -> bool:
        """Listening, and every worker thread alive."""
        return self._listener.listening and all(thread.is_alive() for thread in self._threads)

    def _work(self, lane: tuple[str, ...], wake: threading.Event) -> None:
        while not self._stopping.is_set():
            if not self._listener.wait_until_listening(POLL_SECONDS):
                continue  # without the lock that shows we live, others would take what we claim
            wake.clear()
            try:
                with self._database.system() as session:
                    claim = claim_next(session, self._function.name, lane, self._listener.worker, self._lease)
            except SQLAlchemyError as error:
                log.warning("no event claimed", function=self._function.name, error=type(error).__name__)
                self._stopping.wait(POLL_SECONDS)
                continue
            if claim is None:
                wake.wait(POLL_SECONDS)
            else:
                self._processor.process(claim)


def subscribe(session: Session, function: Function) -> None:
    """Make sure that the function gets every event of its topics, those already in the outbox included.

    New topics take the table's exclusive lock: whoever is emitting just now (and has read the old subscriptions)
    commits first, so that its event is seen by the catching up.
    """
    wanted = set(function.topics)
    mine = select(Subscription.topic).where(Subscription.function == function.name)
    if set(session.scalars(mine)) == wanted:
        return
    session.execute(text("lock table subscriptions in access exclusive mode"))
    known = set(session.scalars(mine))
    _unsubscribe(session, function.name, known - wanted)
    for topic in wanted - known:
        session.execute(insert(Subscription).values(function=function.name, topic=topic))
        _catch_up(session, function.name, topic)


def _unsubscribe(session: Session, function: str, topics: set[str]) -> None:
    """Forget topics, and what still waits in them: nobody will ever handle it."""
    session.execute(
        delete(Subscription).where(Subscription.function == function, Subscription.topic.in_(topics))
    )
    session.execute(
        delete(InboxEntry).where(
            InboxEntry.function == function, InboxEntry.topic.in_(topics), InboxEntry.state == "pending"
        )
    )


def _catch_up(session: Session, function: str, topic: str) -> None:
    seen = select(InboxEntry.event_id).where(InboxEntry.function == function)
    missed = select(
        literal(function),
        OutboxEntry.id,
        OutboxEntry.tenant_id,
        OutboxEntry.seq,
        OutboxEntry.topic,
        OutboxEntry.key,
    ).where(OutboxEntry.topic == topic, OutboxEntry.id.not_in(seen))
    session.execute(
        insert(InboxEntry).from_select(["function", "event_id", "tenant_id", "seq", "topic", "key"], missed)
    )
