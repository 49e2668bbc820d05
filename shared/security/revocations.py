"""Access tokens that were called back before they expired.

Checking a token costs no database query, so each process keeps this short list in memory: sessions that were ended, and
accounts whose older tokens are void, both for no longer than a token lives. A thread reads it from the database every
`revocation_seconds`; what this process calls back itself counts at once.
"""

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from shared.db.models import RefreshToken, User
from shared.db.session import Database
from shared.runtime.services import Services

log = structlog.get_logger(__name__)


class Revocations:
    """What is called back, as this process knows it."""

    def __init__(self, database: Database, token_life: timedelta, every_seconds: float) -> None:
        self._database = database
        self._life = token_life
        self._every = every_seconds
        self._sessions: frozenset[UUID] = frozenset()
        self._accounts: dict[UUID, datetime] = {}
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def covers(self, user_id: UUID, session_id: UUID, issued_at: datetime) -> bool:
        """Whether a token of this session, issued then, is void."""
        valid_from = self._accounts.get(user_id)
        return session_id in self._sessions or (valid_from is not None and issued_at < valid_from)

    def end_session(self, session_id: UUID) -> None:
        """Refuse the session's tokens in this process at once; call it after the commit."""
        with self._lock:
            self._sessions |= {session_id}

    def end_account(self, user_id: UUID, valid_from: datetime) -> None:
        """Refuse the account's older tokens in this process at once; call it after the commit."""
        with self._lock:
            self._accounts = {**self._accounts, user_id: valid_from}

    def refresh(self) -> None:
        """Read the list. Raises SQLAlchemyError."""
        since = datetime.now(UTC) - self._life - timedelta(minutes=1)  # clocks differ
        with self._lock, self._database.system() as session:
            ended = select(RefreshToken.session_id).where(RefreshToken.revoked_at > since).distinct()
            sessions = frozenset(session.scalars(ended))
            voided = session.execute(select(User.id, User.tokens_from).where(User.tokens_from > since))
            self._accounts = {user: moment for user, moment in voided if moment is not None}
            self._sessions = sessions

    def start(self) -> None:
        """Read the list now, and again and again in a thread. Raises SQLAlchemyError."""
        self.refresh()
        self._thread = threading.Thread(target=self._run, name="revocations", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            try:
                self.refresh()
            except SQLAlchemyError as error:  # the list of before still holds; the database will be back
                log.warning("revocations not read", error=type(error).__name__)


def revocations(services: Services) -> Revocations:
    """The process's list (`services.once(revocations)`); its host starts it."""
    settings = services.settings
    life = timedelta(minutes=settings.access_token_minutes)
    return Revocations(services.database, life, settings.revocation_seconds)
