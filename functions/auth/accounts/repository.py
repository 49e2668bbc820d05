"""SQL of accounts."""

from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.db.models import Role, Tenant, User
from shared.errors import Conflict
from shared.ids import uuid7

_UNIQUE = {"uq_users_email": "email", "uq_users_username": "username"}


class Taken(Conflict):
    """Another account has this e-mail address or username."""

    def __init__(self, field: str) -> None:
        message = f"the {field} is taken by another account"
        super().__init__(message, errors=[{"field": field, "message": message}])
        self.field = field


def add(session: Session, user: User) -> None:
    """Insert an account. Raises Taken, after which the transaction is still good."""
    try:
        with session.begin_nested():
            session.add(user)
    except IntegrityError as error:
        driver: Any = error.orig
        field = _UNIQUE.get(driver.diag.constraint_name)
        if field is None:
            raise
        raise Taken(field) from None


def get(session: Session, user_id: UUID) -> User | None:
    """The account with this id."""
    return session.get(User, user_id)


def by_email(session: Session, email: str) -> User | None:
    """The account with this e-mail address, in any case."""
    return session.scalar(select(User).where(func.lower(User.email) == func.lower(email)))


def by_username(session: Session, username: str) -> User | None:
    """The account with this username, in any case."""
    return session.scalar(select(User).where(func.lower(User.username) == func.lower(username)))


def has_admin(session: Session) -> bool:
    """Whether the session's tenant has an administrator who is let in."""
    admins = select(User.id).where(User.role == Role.ADMIN, User.is_active, User.deleted_at.is_(None))
    return session.scalar(admins.limit(1)) is not None


def slug_of(session: Session, user: User) -> str:
    """The short name of an account's tenant."""
    return session.get_one(Tenant, user.tenant_id).slug


def tenant_named(session: Session, slug: str, name: str) -> UUID:
    """The tenant with this slug, made when it is missing; two callers at once get the same one."""
    session.execute(insert(Tenant).values(id=uuid7(), slug=slug, name=name).on_conflict_do_nothing())
    return session.scalars(select(Tenant.id).where(Tenant.slug == slug)).one()
