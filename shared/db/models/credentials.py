"""What lets people in beside their password, and what keeps guessers out. Secrets are here as hashes only."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base, Identified, Stamped, TenantOwned


class RefreshToken(Base, Identified, TenantOwned, Stamped):
    """One link of a session: using it makes the next. A second use ends the whole session."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (
        Index("ix_refresh_tokens_revoked", "revoked_at", postgresql_where=text("revoked_at is not null")),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    session_id: Mapped[UUID] = mapped_column(index=True)
    """The same in every link, and the `sid` of the session's access tokens."""
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    """SHA-256 of the token."""
    started_at: Mapped[datetime]
    """When the session began: however often it is refreshed, it ends some days after."""
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class ApiKey(Base, Identified, TenantOwned, Stamped):
    """A long-lived credential of a program. The key itself is shown once, when it is made."""

    __tablename__ = "api_keys"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    """What its owner calls it."""
    prefix: Mapped[str]
    """The first characters, by which its owner knows it again."""
    key_hash: Mapped[bytes] = mapped_column(unique=True)
    """SHA-256 of the key, which is random enough (256 bits) to need no slow hash."""
    scopes: Mapped[list[str]]
    """Actions that it may be used for; its owner's role must allow them too."""
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class PasswordReset(Base, Identified, TenantOwned, Stamped):
    """A single-use token that was sent to an account's address."""

    __tablename__ = "password_resets"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Identity(Base, Identified, TenantOwned, Stamped):
    """Who an account is to an OpenID Connect provider."""

    __tablename__ = "identities"
    __table_args__ = (Index("uq_identities_subject", "issuer", "subject", unique=True),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    issuer: Mapped[str]
    subject: Mapped[str]


class LoginAttempt(Base):
    """How often something was tried lately. It is counted before tenant and account are known, for unknown names too."""

    __tablename__ = "login_attempts"

    key: Mapped[str] = mapped_column(primary_key=True)
    """What is limited, such as `login-account:<hash of the account>`; never a name or an address in clear."""
    count: Mapped[int]
    since: Mapped[datetime] = mapped_column(server_default=func.now())
    """Start of the window that is counted."""
    blocked_until: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now(), index=True)
