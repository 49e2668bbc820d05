"""The bus of one machine: outbox rows are the queue, NOTIFY wakes, SKIP LOCKED claims."""

import secrets
import select
import threading
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import psycopg2
import structlog
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT
from psycopg2.extensions import connection as Connection
from sqlalchemy import delete, insert, literal, text, update
from sqlalchemy import select as sql_select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from shared.db.models import DeadLetter, InboxEntry, OutboxEntry, Subscription
from shared.db.session import Database
from shared.errors import NotFound
from shared.runtime.bus import Bus, Consumer, DeadLetters
from shared.runtime.function import Function
from shared.runtime.inbox import WORKER_LOCKS, claim_next, release_orphans
from shared.runtime.outbox import CHANNEL
from shared.runtime.processing import Processor
from shared.runtime.services import Services

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
"""How often a lane looks without being woken: for retries that fall due."""
ORPHAN_SECONDS = 2.0
"""How often leases of dead workers are looked for."""


class PostgresBus(Bus):
    """Delivers straight from the database; no broker."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def consumer(self, function: Function, services: Services, concurrency: int = 1) -> "PostgresConsumer":
        """A consumer with its own worker identity."""
        return PostgresConsumer(function, services, concurrency)

    @property
    def dead_letters(self) -> "PostgresDeadLetters":
        """Dead letters of all functions."""
        return PostgresDeadLetters(self._database)

    def clean(self, keep: timedelta) -> int:
        """Drop outbox rows older than `keep` that no function still has to handle, and their inbox rows."""
        old = text(
            "delete from outbox o where o.created_at < now() - :keep "
            "and not exists (select from inbox i where i.event_id = o.id and i.state <> 'done') returning o.id"
        )
        with self._database.system() as session:
            ids = session.scalars(old, {"keep": keep}).all()
            session.execute(delete(InboxEntry).where(InboxEntry.event_id.in_(ids)))
        return len(ids)


class PostgresConsumer(Consumer):
    """Worker threads for each lane of a function, and one thread that listens."""

    def __init__(self, function: Function, services: Services, concurrency: int) -> None:
        self._function = function
        self._services = services
        self._database = services.database
        self._lease = timedelta(seconds=services.settings.lease_seconds)
        self._worker = secrets.randbits(31)
        self._stopping = threading.Event()
        self._listening = threading.Event()
        self._processor = Processor(function, services, self._stopping)
        lanes = [lane for lane in function.lanes() for _ in range(concurrency)]
        self._wakes = [threading.Event() for _ in lanes]
        self._threads = [
            threading.Thread(
                target=self._work, args=(lane, wake), name=f"{function.name}-{lane[0]}", daemon=True
            )
            for lane, wake in zip(lanes, self._wakes, strict=True)
        ]
        self._listener = threading.Thread(target=self._listen, name=f"{function.name}-listen", daemon=True)

    def start(self) -> None:
        """Subscribe, then listen and work."""
        with self._database.system() as session:
            subscribe(session, self._function)
        self._listener.start()
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> bool:
        """See Consumer.stop; the worker's lock goes last, so that nobody takes over what still runs."""
        self._stopping.set()
        for wake in self._wakes:
            wake.set()
        deadline = threading.Event()
        timer = threading.Timer(timeout, deadline.set)
        timer.start()
        for thread in self._threads:
            while thread.is_alive() and not deadline.is_set():
                thread.join(0.05)
        timer.cancel()
        drained = not any(thread.is_alive() for thread in self._threads)
        if self._listener.is_alive():
            self._listener.join(2 * POLL_SECONDS)
        return drained

    @property
    def healthy(self) -> bool:
        """Listening, and every worker thread alive."""
        return self._listening.is_set() and all(thread.is_alive() for thread in self._threads)

    def _work(self, lane: tuple[str, ...], wake: threading.Event) -> None:
        self._listening.wait(5)  # the lock that shows we live comes first
        while not self._stopping.is_set():
            wake.clear()
            try:
                with self._database.system() as session:
                    claim = claim_next(session, self._function.name, lane, self._worker, self._lease)
            except DBAPIError as error:
                log.warning("database away", function=self._function.name, error=type(error.orig).__name__)
                self._stopping.wait(POLL_SECONDS)
                continue
            if claim is None:
                wake.wait(POLL_SECONDS)
            else:
                self._processor.process(claim)

    def _listen(self) -> None:
        while not self._done():
            try:
                self._listen_on(self._connect())
            except (psycopg2.Error, DBAPIError) as error:
                self._listening.clear()
                log.warning("listener reconnects", function=self._function.name, error=type(error).__name__)
                self._stopping.wait(POLL_SECONDS)
        self._listening.clear()

    def _done(self) -> bool:
        return self._stopping.is_set() and not any(thread.is_alive() for thread in self._threads)

    def _connect(self) -> Connection:
        """A connection of its own, which holds the worker's lock for as long as the process lives."""
        url = self._database.engine.url.set(drivername="postgresql")
        connection = psycopg2.connect(url.render_as_string(hide_password=False))
        connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        with connection.cursor() as cursor:
            cursor.execute("select pg_advisory_lock(%s, %s)", (WORKER_LOCKS, self._worker))
            cursor.execute(f"listen {CHANNEL}")
        return connection

    def _listen_on(self, connection: Connection) -> None:
        try:
            self._listening.set()
            waited = ORPHAN_SECONDS
            while not self._done():
                if waited >= ORPHAN_SECONDS:
                    waited = 0.0
                    self._free_orphans()
                ready, _, _ = select.select([connection], [], [], POLL_SECONDS / 2)
                waited += 0 if ready else POLL_SECONDS / 2
                connection.poll()
                if connection.notifies:
                    connection.notifies.clear()
                    self._wake()
        finally:
            connection.close()

    def _free_orphans(self) -> None:
        with self._database.system() as session:
            freed = release_orphans(session)
        if freed:
            log.info("took over events of dead workers", count=freed)
            self._wake()

    def _wake(self) -> None:
        for wake in self._wakes:
            wake.set()


class PostgresDeadLetters(DeadLetters):
    """Dead letters in their table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, limit: int = 100) -> Sequence[DeadLetter]:
        """Newest first."""
        with self._database.system() as session:
            return session.scalars(sql_select(DeadLetter).order_by(DeadLetter.id.desc()).limit(limit)).all()

    def get(self, id: UUID) -> DeadLetter:
        """One, whole."""
        with self._database.system() as session:
            return _get(session, id)

    def replay(self, id: UUID) -> None:
        """Make the inbox row wait again."""
        with self._database.system() as session:
            letter = _get(session, id)
            again = {"state": "pending", "attempt": 0, "available_at": text("now()")}
            session.execute(
                update(InboxEntry)
                .where(InboxEntry.function == letter.function, InboxEntry.event_id == letter.event_id)
                .values(again)
            )
            session.delete(letter)
            session.execute(text(f"notify {CHANNEL}"))

    def discard(self, id: UUID) -> None:
        """Drop the letter; the inbox row counts as done."""
        with self._database.system() as session:
            letter = _get(session, id)
            session.execute(
                update(InboxEntry)
                .where(InboxEntry.function == letter.function, InboxEntry.event_id == letter.event_id)
                .values(state="done")
            )
            session.delete(letter)


def _get(session: Session, id: UUID) -> DeadLetter:
    letter = session.get(DeadLetter, id)
    if letter is None:
        raise NotFound(f"no dead letter {id}")
    return letter


def subscribe(session: Session, function: Function) -> None:
    """Make sure that the function gets every event of its topics, those already in the outbox included.

    New topics take the table's exclusive lock: whoever is emitting just now (and has read the old subscriptions)
    commits first, so that its event is seen by the catching up.
    """
    wanted = set(function.topics)
    mine = sql_select(Subscription.topic).where(Subscription.function == function.name)
    if set(session.scalars(mine)) == wanted:
        return
    session.execute(text("lock table subscriptions in access exclusive mode"))
    known = set(session.scalars(mine))
    stale = known - wanted
    session.execute(
        delete(Subscription).where(Subscription.function == function.name, Subscription.topic.in_(stale))
    )
    for topic in wanted - known:
        session.execute(insert(Subscription).values(function=function.name, topic=topic))
        _catch_up(session, function.name, topic)


def _catch_up(session: Session, function: str, topic: str) -> None:
    seen = sql_select(InboxEntry.event_id).where(InboxEntry.function == function)
    missed = sql_select(
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
