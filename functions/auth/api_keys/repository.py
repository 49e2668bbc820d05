"""SQL of API keys."""

from uuid import UUID

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session

from shared.db.models import ApiKey, User


def of_user(user_id: UUID) -> Select[ApiKey]:
    """Query of an account's keys, revoked and expired ones too."""
    return select(ApiKey).where(ApiKey.user_id == user_id)


def get(session: Session, user_id: UUID, key_id: UUID) -> ApiKey | None:
    """One key of an account."""
    return session.scalar(of_user(user_id).where(ApiKey.id == key_id))


def lock_owner(session: Session, user_id: UUID) -> User | None:
    """The account, whose keys nobody else adds to until the transaction ends."""
    return session.scalar(select(User).where(User.id == user_id).with_for_update(key_share=True))


def count_live(session: Session, user_id: UUID) -> int:
    """How many of the account's keys are good for something."""
    live = of_user(user_id).where(
        ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now())
    )
    return session.scalars(select(func.count()).select_from(live.subquery())).one()
