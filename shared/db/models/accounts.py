"""Tenants and the people in them."""

from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, text
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


class User(Base, Identified, TenantOwned, Stamped):
    """Somebody who may log in, by e-mail or by username."""

    __tablename__ = "users"
    __table_args__ = (
        Index("uq_users_email", text("lower(email)"), unique=True),
        Index("uq_users_username", text("lower(username)"), unique=True),
        CheckConstraint("role in ('admin', 'doctor', 'radiologist', 'pathologist', 'user')", name="role"),
    )

    email: Mapped[str]
    username: Mapped[str]
    password_hash: Mapped[str]
    role: Mapped[str] = mapped_column(default=Role.USER)
    is_active: Mapped[bool] = mapped_column(default=True)
    full_name: Mapped[str | None]
    title: Mapped[str | None]
    department: Mapped[str | None]
    specialty: Mapped[str | None]
    institution: Mapped[str | None]
    phone: Mapped[str | None]
