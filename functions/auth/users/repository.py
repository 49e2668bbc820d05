"""SQL of the administration of accounts. Removed people are not found."""

from uuid import UUID

from sqlalchemy import Select, delete, or_, select
from sqlalchemy.orm import Session

from shared.db.models import ApiKey, Identity, PasswordReset, Role, User

CREDENTIALS = (ApiKey, PasswordReset, Identity)
"""What lets somebody in beside a password, and may tell who they are."""


def listed(role: Role | None, is_active: bool | None, part: str | None) -> Select[User]:
    """Query of the tenant's accounts; `part` is of the e-mail address, username or full name, in any case."""
    query = select(User).where(User.deleted_at.is_(None))
    if role is not None:
        query = query.where(User.role == role)
    if is_active is not None:
        query = query.where(User.is_active == is_active)
    if part:
        names = (User.email, User.username, User.full_name)
        query = query.where(or_(*(name.icontains(part, autoescape=True) for name in names)))
    return query


def get(session: Session, user_id: UUID) -> User | None:
    """The account with this id."""
    return session.scalar(select(User).where(User.id == user_id, User.deleted_at.is_(None)))


def lock_with_admins(session: Session, user_id: UUID) -> tuple[User | None, set[UUID]]:
    """The account, and the ids of the tenant's active administrators; none of them changes until the transaction ends.

    All in one query and in one order, so that administrators who change each other at once wait in line.
    """
    is_admin = (User.role == Role.ADMIN) & User.is_active
    rows = session.scalars(
        select(User)
        .where(or_(User.id == user_id, is_admin), User.deleted_at.is_(None))
        .order_by(User.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    admins = {row.id for row in rows if row.role == Role.ADMIN and row.is_active}
    return next((row for row in rows if row.id == user_id), None), admins


def delete_credentials(session: Session, user_id: UUID) -> None:
    """Delete what lets the person in, and what another identity provider calls them."""
    for table in CREDENTIALS:
        session.execute(delete(table).where(table.user_id == user_id))
