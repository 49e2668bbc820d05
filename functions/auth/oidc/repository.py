"""SQL of identities."""

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from shared.db.models import ApiKey, Identity, PasswordReset, User


def wait_for_turn(session: Session, issuer: str, subject: str) -> None:
    """Let only one transaction at a time decide whose account this is."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"{issuer} {subject}", 0))))


def owner(session: Session, issuer: str, subject: str) -> User | None:
    """The account of somebody at a provider."""
    same = (Identity.issuer == issuer, Identity.subject == subject)
    return session.scalar(select(User).join(Identity, Identity.user_id == User.id).where(*same))


def add(session: Session, user: User, issuer: str, subject: str) -> None:
    """Let somebody at a provider into this account from now on."""
    session.add(Identity(tenant_id=user.tenant_id, user_id=user.id, issuer=issuer, subject=subject))
    session.flush()


def void_other_ways_in(session: Session, user: User) -> None:
    """Make password, resets, API keys and identities of the account useless; sessions are ended elsewhere."""
    user.password_hash = None
    of_user = ApiKey.user_id == user.id, ApiKey.revoked_at.is_(None)
    session.execute(update(ApiKey).where(*of_user).values(revoked_at=func.now()))
    unused = PasswordReset.user_id == user.id, PasswordReset.used_at.is_(None)
    session.execute(update(PasswordReset).where(*unused).values(used_at=func.now()))
    session.execute(delete(Identity).where(Identity.user_id == user.id))
    session.flush()
