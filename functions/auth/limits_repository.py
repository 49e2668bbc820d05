"""SQL of limits. The clock is the database's: replicas agree on it."""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Interval, and_, case, delete, func, literal, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.db.models import LoginAttempt


def count_try(session: Session, key: str, most: int, window: timedelta, block: timedelta) -> int | None:
    """Count one try and return how many that makes, or None, with nothing counted, when `most` were made already.

    One statement: of callers that come at once, each sees the count of the one before.
    """
    row, now = LoginAttempt, func.now()
    over = _is_over(window)
    first = insert(row).values(key=key, count=1, blocked_until=_until(block) if most == 1 else None)
    counted = first.on_conflict_do_update(
        index_elements=[row.key],
        set_={
            "count": case((over, 1), else_=row.count + 1),
            "since": case((over, now), else_=row.since),
            "blocked_until": case(
                (case((over, 1), else_=row.count + 1) >= most, _until(block)), else_=null()
            ),
            "updated_at": now,
        },
        where=or_(over, and_(row.blocked_until.is_(None), row.count < most)),
    )
    return session.execute(counted.returning(row.count)).scalar_one_or_none()


def seconds_left(session: Session, key: str, window: timedelta) -> float:
    """How long until tries with this key are let through again; 0 when they are now."""
    end = func.coalesce(LoginAttempt.blocked_until, LoginAttempt.since + _interval(window))
    left = select(func.extract("epoch", end - func.now())).where(LoginAttempt.key == key)
    return max(0.0, float(session.scalar(left) or 0))


def take_back(session: Session, key: str, most: int) -> None:
    """Uncount one try, and with it the block that it may have set off."""
    session.execute(
        update(LoginAttempt)
        .where(LoginAttempt.key == key, LoginAttempt.count > 0)
        .values(
            count=LoginAttempt.count - 1,
            blocked_until=case((LoginAttempt.count > most, LoginAttempt.blocked_until), else_=null()),
        )
    )


def forget(session: Session, key: str) -> None:
    """Begin anew with this key."""
    session.execute(delete(LoginAttempt).where(LoginAttempt.key == key))


def delete_old(session: Session, age: timedelta) -> int:
    """Delete what was not tried for this long and blocks nobody; returns how many."""
    now = func.now()
    old = delete(LoginAttempt).where(
        LoginAttempt.updated_at < now - _interval(age),
        or_(LoginAttempt.blocked_until.is_(None), LoginAttempt.blocked_until < now),
    )
    return len(session.scalars(old.returning(LoginAttempt.key)).all())


def _is_over(window: timedelta) -> ColumnElement[bool]:
    """Whether the block, or else the window, of a row has passed."""
    row, now = LoginAttempt, func.now()
    return or_(
        row.blocked_until <= now, and_(row.blocked_until.is_(None), row.since + _interval(window) <= now)
    )


def _until(block: timedelta) -> ColumnElement[datetime]:
    return func.now() + _interval(block)


def _interval(length: timedelta) -> ColumnElement[timedelta]:
    return literal(length, Interval)
