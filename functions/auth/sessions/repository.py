"""SQL of sessions."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Update, delete, func, or_, select, update
from sqlalchemy.orm import Session

from shared.db.models import PasswordReset, RefreshToken, User


def by_hash(session: Session, token_hash: bytes) -> RefreshToken | None:
    """The refresh token with this hash."""
    return session.scalar(select(RefreshToken).where(RefreshToken.token_hash == token_hash))


def take(session: Session, token_hash: bytes) -> tuple[RefreshToken, User] | None:
    """The token and its account. The account is locked first, as whoever ends its sessions does: of two callers that
    use a token at once the second finds it used, and no session slips through while all are being ended."""
    row = by_hash(session, token_hash)
    if row is None:
        return None
    user = locked_account(session, row.user_id)
    session.refresh(row)
    return row, user


def revoke_session(session: Session, session_id: UUID) -> None:
    """Make every token of the session useless."""
    session.execute(_revocation().where(RefreshToken.session_id == session_id))


def revoke_account(session: Session, user_id: UUID) -> None:
    """Make every token of every session of the account useless."""
    session.execute(_revocation().where(RefreshToken.user_id == user_id))


def void_access_tokens(session: Session, user_id: UUID, valid_from: datetime) -> None:
    """Refuse the account's access tokens that were issued before `valid_from`."""
    session.execute(update(User).where(User.id == user_id).values(tokens_from=valid_from))


def locked_account(session: Session, user_id: UUID) -> User:
    """The account as it is now, until the transaction ends."""
    return session.get_one(User, user_id, with_for_update=True, populate_existing=True)


def note_login(session: Session, user_id: UUID) -> None:
    """Remember when the account was last logged into."""
    noted = _quiet_update(user_id).values(last_login_at=func.now())
    session.execute(noted, execution_options={"synchronize_session": False})


def replace_hash(session: Session, user_id: UUID, old: str, new: str) -> bool:
    """Keep the same password by another hash. Says no where the password was changed meanwhile."""
    replaced = _quiet_update(user_id).where(User.password_hash == old).values(password_hash=new)
    return session.scalar(replaced.returning(User.id)) is not None


def delete_ended(session: Session, before: datetime) -> int:
    """Delete refresh and reset tokens that ended before; returns how many."""
    ended = delete(RefreshToken).where(
        or_(RefreshToken.expires_at < before, RefreshToken.revoked_at < before)
    )
    gone = session.scalars(ended.returning(RefreshToken.id)).all()
    resets = delete(PasswordReset).where(PasswordReset.expires_at < before).returning(PasswordReset.id)
    return len(gone) + len(session.scalars(resets).all())


def _quiet_update(user_id: UUID) -> Update:
    """What is no change of the account to those who look at it."""
    return update(User).where(User.id == user_id).values(updated_at=User.updated_at)


def _revocation() -> Update:
    return update(RefreshToken).where(RefreshToken.revoked_at.is_(None)).values(revoked_at=func.now())
