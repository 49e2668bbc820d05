"""API keys: `hsk_` and 256 random bits. Their SHA-256 is what is stored; there is nothing to guess that a slow hash
would protect."""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, or_, select, update

from shared.db.models import ApiKey, Role, User
from shared.db.session import Database
from shared.errors import Unauthenticated
from shared.security.policy import Action
from shared.security.principal import Credential, CredentialKind, Principal

PREFIX = "hsk_"
SHOWN_CHARACTERS = 12
"""How much of a key is kept in clear, so that its owner knows it again: the prefix and 48 bits."""
USED_EVERY = timedelta(minutes=1)
"""`last_used_at` is not written more often."""


def new_key() -> str:
    """A fresh key."""
    return PREFIX + secrets.token_urlsafe(32)


def secret_hash(secret: str) -> bytes:
    """What is stored of a key, and of any other random secret."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def verify_key(database: Database, key: str) -> Principal:
    """Who a key stands for; one query. Raises Unauthenticated, in the same words whatever is wrong with it."""
    usable = (
        select(ApiKey, User.role)
        .join(User, User.id == ApiKey.user_id)
        .where(
            ApiKey.key_hash == secret_hash(key),
            ApiKey.revoked_at.is_(None),
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()),
            User.is_active,
        )
    )
    with database.system() as session:
        found = session.execute(usable).one_or_none()
        if found is None:
            raise Unauthenticated("the API key is not valid here: unknown, expired or revoked")
        row, role = found
        if row.last_used_at is None or row.last_used_at < datetime.now(UTC) - USED_EVERY:
            session.execute(
                update(ApiKey)
                .where(ApiKey.id == row.id)
                .values(last_used_at=func.now(), updated_at=ApiKey.updated_at)
            )
    known = {action.value for action in Action}
    scopes = frozenset(Action(scope) for scope in row.scopes if scope in known)
    credential = Credential(CredentialKind.API_KEY, row.id)
    return Principal(row.user_id, row.tenant_id, Role(role), credential, scopes)
