"""SQL of passwords and resets. Whoever changes either locks the account first, so that nobody waits in a circle."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Integer, cast, delete, func, select, update
from sqlalchemy.orm import Session

from shared.db.models import PasswordReset, User


def lock_account(session: Session, user_id: UUID) -> User | None:
    """The active account, as it is now and until the transaction ends."""
    return session.scalar(
        select(User)
        .where(User.id == user_id, User.is_active)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )


def highest_cost(session: Session) -> int | None:
    """The highest bcrypt cost among all passwords (`$2b$<cost>$…`)."""
    cost = cast(func.substring(User.password_hash, r"^\$2[aby]\$([0-9]{2})\$"), Integer)
    return session.scalar(select(func.max(cost)))


def delete_unused_resets(session: Session, user_id: UUID) -> None:
    """Make every reset token of the account useless."""
    session.execute(
        delete(PasswordReset).where(PasswordReset.user_id == user_id, PasswordReset.used_at.is_(None))
    )


def add_reset(session: Session, user: User, token_hash: bytes, expires_at: datetime) -> None:
    """Keep what is needed to know a token again."""
    reset = PasswordReset(
        tenant_id=user.tenant_id, user_id=user.id, token_hash=token_hash, expires_at=expires_at
    )
    session.add(reset)


def holder_of_reset(session: Session, token_hash: bytes) -> User | None:
    """The active account of a token that is still good."""
    return session.scalar(
        select(User)
        .join(PasswordReset, PasswordReset.user_id == User.id)
        .where(
            PasswordReset.token_hash == token_hash,
            PasswordReset.used_at.is_(None),
            PasswordReset.expires_at > func.now(),
            User.is_active,
        )
    )


def use_reset(session: Session, token_hash: bytes) -> bool:
    """Use a token up. Of several callers at once, one is told that it could."""
    used = (
        update(PasswordReset)
        .where(
            PasswordReset.token_hash == token_hash,
            PasswordReset.used_at.is_(None),
            PasswordReset.expires_at > func.clock_timestamp(),
        )
        .values(used_at=func.clock_timestamp())
        .returning(PasswordReset.id)
    )
    return session.scalar(used) is not None
