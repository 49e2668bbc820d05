"""The heartbeat of a process on the Postgres bus: it wakes workers, shows that they live, and frees what dead ones held.

One connection holds the worker's advisory lock and listens. A killed process loses the lock with its connection, so
that others take over its events within seconds instead of after their lease.
"""

import secrets
import selectors
import threading
import time

import psycopg2
import structlog
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT
from psycopg2.extensions import connection as Connection
from sqlalchemy.exc import SQLAlchemyError

from shared.db.session import Database
from shared.runtime.inbox import WORKER_LOCKS, release_orphans
from shared.runtime.outbox import CHANNEL

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
"""How often a lane looks without being woken: for retries that fall due."""
ORPHAN_SECONDS = 2.0
"""How often leases of dead workers are looked for."""
RECONNECT_GRACE_SECONDS = 6.0
"""After a lost connection: time for every other process to come back before its leases count as orphaned."""
_TICK_SECONDS = 0.25


class Listener:
    """Shared by all consumers of a process; runs while at least one of them does."""

    def __init__(self, database: Database) -> None:
        self.worker = secrets.randbits(31)
        self._database = database
        self._wakes: list[threading.Event] = []
        self._listening = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def listening(self) -> bool:
        """Whether the connection, and with it the lock, is there."""
        return self._listening.is_set() and self._thread is not None and self._thread.is_alive()

    def wait_until_listening(self, seconds: float) -> bool:
        """Wait for the connection for at most that long."""
        return self._listening.wait(seconds)

    def join(self, wakes: list[threading.Event]) -> None:
        """Wake these lanes too."""
        with self._lock:
            self._wakes = [*self._wakes, *wakes]
            if self._thread is None:
                self._over.clear()
                self._thread = threading.Thread(target=self._run, name="bus-listener", daemon=True)
                self._thread.start()

    def leave(self, wakes: list[threading.Event]) -> None:
        """Wake these lanes no longer; after the last one the lock is given up."""
        with self._lock:
            self._wakes = [wake for wake in self._wakes if wake not in wakes]
            thread = self._thread
            if self._wakes or thread is None:
                return
            self._thread = None
            self._over.set()
        thread.join()

    def _run(self) -> None:
        grace = 0.0
        while not self._over.is_set():
            try:
                self._listen(self._connect(), grace)
            except (psycopg2.Error, SQLAlchemyError, OSError) as error:
                log.warning("bus listener reconnects", error=type(error).__name__)
                self._over.wait(POLL_SECONDS)
            finally:
                self._listening.clear()
            grace = RECONNECT_GRACE_SECONDS

    def _connect(self) -> Connection:
        url = self._database.engine.url.set(drivername="postgresql")
        connection = psycopg2.connect(url.render_as_string(hide_password=False))
        connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        with connection.cursor() as cursor:
            cursor.execute("select pg_advisory_lock(%s, %s)", (WORKER_LOCKS, self.worker))
            cursor.execute(f"listen {CHANNEL}")
        return connection

    def _listen(self, connection: Connection, grace: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            self._listening.set()
            self._wake()
            sweep_at = time.monotonic() + grace
            try:
                while not self._over.is_set():
                    if time.monotonic() >= sweep_at:
                        self._free_orphans()
                        sweep_at = time.monotonic() + ORPHAN_SECONDS
                    selector.select(_TICK_SECONDS)
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
