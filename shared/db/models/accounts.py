"""Tenants and the people in them."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base, Identified, Stamped, TenantOwned


class Role(StrEnum):
    """What a user is."""

    ADMIN = "admin"
    DOCTOR = "doctor"
    RADIOLOGIST = "radiologist"
    PATHOLOGIST = "pathologist"
    USER = "user"


class Tenant(Base, Identified, Stamped):
    """A hospital, laboratory or department whose data nobody else sees."""

    __tablename__ = "tenants"

    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """What its studies and uploads may take together; None: HOUNSFIELD_QUOTA_BYTES."""


class User(Base, Identified, TenantOwned, Stamped):
    """Somebody who may log in, by e-mail or by username."""

    __tablename__ = "users"
    __table_args__ = (
        Index("uq_users_email", text("lower(email)"), unique=True),
        Index("uq_users_username", text("lower(username)"), unique=True),
        Index("ix_users_tokens_from", "tokens_from", postgresql_where=text("tokens_from is not null")),
        CheckConstraint("role in ('admin', 'doctor', 'radiologist', 'pathologist', 'user')", name="role"),
    )

    email: Mapped[str]
    username: Mapped[str]
    password_hash: Mapped[str | None]
    """None where only another identity provider lets this person in."""
    role: Mapped[str] = mapped_column(default=Role.USER)
    is_active: Mapped[bool] = mapped_column(default=True)
    tokens_from: Mapped[datetime | None]
    """Access tokens that were issued before this are refused: set when the password, role or state changes."""
    last_login_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    """The person was removed: the row stays, without name or address, so that studies keep their owner."""
    full_name: Mapped[str | None]
    title: Mapped[str | None]
    department: Mapped[str | None]
    specialty: Mapped[str | None]
    institution: Mapped[str | None]
    phone: Mapped[str | None]
