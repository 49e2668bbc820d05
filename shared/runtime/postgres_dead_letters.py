"""Dead letters of the Postgres bus."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from shared.db.models import DeadLetter, InboxEntry
from shared.db.session import Database
from shared.errors import NotFound
from shared.runtime.bus import DeadLetters
from shared.runtime.outbox import CHANNEL


class PostgresDeadLetters(DeadLetters):
    """Dead letters in their table; replaying makes the inbox row wait again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, limit: int = 100) -> Sequence[DeadLetter]:
        """Newest first."""
        with self._database.system() as session:
            return session.scalars(select(DeadLetter).order_by(DeadLetter.id.desc()).limit(limit)).all()

    def get(self, id: UUID) -> DeadLetter:
        """One, whole."""
        with self._database.system() as session:
            return _locked(session, id)

    def replay(self, id: UUID) -> None:
        """See DeadLetters. `attempt` only ever rises: it fences off whoever held the event before."""
        again = {"state": "pending", "failures": 0, "crashes": 0, "available_at": func.now()}
        with self._database.system() as session:
            _revive(session, id, again)
            session.execute(text(f"notify {CHANNEL}"))

    def discard(self, id: UUID) -> None:
        """See DeadLetters."""
        with self._database.system() as session:
            _revive(session, id, {"state": "done"})


def _revive(session: Session, id: UUID, values: dict[str, Any]) -> None:
    letter = _locked(session, id)
    session.execute(
        update(InboxEntry)
        .where(
            InboxEntry.function == letter.function,
            InboxEntry.event_id == letter.event_id,
            InboxEntry.state == "dead",
        )
        .values(**values)
    )
    session.delete(letter)


def _locked(session: Session, id: UUID) -> DeadLetter:
    """The letter, held until the transaction ends: two replays at once are one."""
    letter = session.get(DeadLetter, id, with_for_update=True)
    if letter is None:
        raise NotFound(f"no dead letter {id}")
    return letter
