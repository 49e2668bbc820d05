"""Who is let in, for how long, and how that ends."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

import structlog
from sqlalchemy.orm import Session as DatabaseSession

from functions.auth.accounts import repository as accounts
from functions.auth.accounts.tenants import default_tenant
from functions.auth.limits import Limits, account_subject, address_subject, limits, name_subject
from functions.auth.passwords.rules import password_hasher
from functions.auth.sessions import repository
from shared.db.models import RefreshToken, Role, User
from shared.errors import TooManyRequests, Unauthenticated
from shared.ids import uuid7
from shared.runtime.services import Services
from shared.runtime.unit import unit_of_work
from shared.security.api_keys import secret_hash
from shared.security.audit import Actor
from shared.security.keys import token_issuer
from shared.security.principal import Credential, CredentialKind, Principal
from shared.security.revocations import revocations

log = structlog.get_logger(__name__)

PREFIX = "hsr_"
KEPT = timedelta(days=7)
"""How long the rows of ended sessions stay."""


@dataclass(frozen=True)
class Session:
    """A session with the two tokens that were just made for it; lives in seconds."""

    id: UUID
    user: User
    access_token: str
    access_seconds: int
    refresh_token: str
    refresh_seconds: int


class Standing(StrEnum):
    """What the token that names a session is still worth."""

    GOOD = "good"
    USED = "used"
    ENDED = "ended"
    """Revoked, or expired."""


@dataclass(frozen=True)
class Holder:
    """Whose session it is."""

    session_id: UUID
    user_id: UUID
    tenant_id: UUID
    standing: Standing = Standing.GOOD


def authenticate(services: Services, name: str, password: str, address: str | None) -> User:
    """Who this e-mail address or username, with this password, is.

    Raises Unauthenticated with the same words after the same time, whether the account is unknown or inactive
    or the password is wrong; TooManyRequests after too many failures.
    """
    guard, origin = services.once(limits), address_subject(address)
    guard.charge(guard.rules.login_address, origin)
    try:
        guard.charge(guard.rules.login_name, name_subject(name))
    except TooManyRequests:
        guard.refund(guard.rules.login_address, origin)  # it was no guess: nothing was compared
        raise
    with services.database.system() as session:
        find = accounts.by_email if "@" in name else accounts.by_username
        user = find(session, name)
    left = _guesses_left(guard, user, name)
    same = services.once(password_hasher).matches(password, user.password_hash if user else None)
    if user is None or not same or not user.is_active or left is None:
        _tell_of_failure(services, user, address, locked=not left)
        raise Unauthenticated(
            "no active account has this name and password, or too many log-ins failed for it lately"
        )
    guard.forgive(user)
    guard.refund(guard.rules.login_address, origin)
    _keep_as_is_usual_now(services, user, password)
    return user


def start_session(services: Services, user: User, actor: Actor) -> Session:
    """Let somebody in who has shown who they are; `actor` says how.

    Raises Unauthenticated where the account was closed or its password changed meanwhile.
    """
    now = datetime.now(UTC)
    with unit_of_work(services, user.tenant_id, actor) as unit:
        current = repository.locked_account(unit.session, user.id)
        if not current.is_active or current.password_hash != user.password_hash:
            raise Unauthenticated("the account was changed meanwhile; log in again")
        repository.note_login(unit.session, user.id)
        link = _new_link(services, current, uuid7(), now, now)
        unit.session.add(link.row)
        unit.audit("auth.login", subject=("user", user.id), details={"session": str(link.row.session_id)})
    return _session(services, current, link)


def refresh_session(services: Services, token: str, address: str | None) -> Session:
    """The next pair of tokens of a session, for its newest refresh token, which is used up by this.

    One that is used a second time was stolen, from its owner or by its owner's doing: the session ends for both.
    Raises Unauthenticated.
    """
    now = datetime.now(UTC)
    link, user, reused = None, None, None
    with services.database.system() as session:
        found = repository.take(session, secret_hash(token))
        if found is not None:
            row, user = found
            if row.revoked_at is None and row.used_at is not None:
                reused = Holder(row.session_id, row.user_id, row.tenant_id)
                repository.revoke_session(session, row.session_id)
            elif row.revoked_at is None and row.expires_at > now and user.is_active:
                row.used_at = now
                link = _new_link(services, user, row.session_id, row.started_at, now)
                session.add(link.row)
    if reused is not None:
        _tell_of_reuse(services, reused, address)
    if link is None or user is None:
        raise Unauthenticated("the refresh token is unknown, used, expired or revoked; log in again")
    return _session(services, user, link)


def holder_of_token(services: Services, token: str) -> Holder | None:
    """Whose refresh token, in whatever state, this is."""
    with services.database.system() as session:
        row = repository.by_hash(session, secret_hash(token))
        return None if row is None else Holder(row.session_id, row.user_id, row.tenant_id, _standing(row))


def end_session(services: Services, holder: Holder, actor: Actor) -> None:
    """Log out: neither kind of token of this session is good for anything afterwards.

    One that has ended stays as it is. A used refresh token does end its own session, as using it again would.
    """
    if holder.standing is Standing.ENDED:
        return
    with unit_of_work(services, holder.tenant_id, actor) as unit:
        repository.revoke_session(unit.session, holder.session_id)
        details = {"session": str(holder.session_id)}
        unit.audit("auth.logout", subject=("user", holder.user_id), details=details)
    services.once(revocations).end_session(holder.session_id)


def end_account_sessions(services: Services, holder: Holder, actor: Actor) -> None:
    """Log out everywhere. Raises Unauthenticated for a token that is no longer good: an old one that is found
    somewhere must not log people out again and again."""
    if holder.standing is not Standing.GOOD:
        raise Unauthenticated("the refresh token is used, expired or revoked; log in to end all sessions")
    with unit_of_work(services, holder.tenant_id, actor) as unit:
        moment = end_all_sessions(unit.session, holder.user_id)
        unit.audit("auth.logout", subject=("user", holder.user_id), details={"session": "all"})
    services.once(revocations).end_account(holder.user_id, moment)


def end_all_sessions(session: DatabaseSession, user_id: UUID) -> datetime:
    """End every session of an account, in the caller's transaction. After its commit, hand the moment that this
    returns to `revocations.end_account`."""
    now = datetime.now(UTC)
    repository.void_access_tokens(session, user_id, now)  # first: it locks the account
    repository.revoke_account(session, user_id)
    return now


def clean_sessions(services: Services) -> int:
    """Delete what is left of sessions and resets that ended some time ago; returns how many rows."""
    with services.database.system() as session:
        return repository.delete_ended(session, datetime.now(UTC) - KEPT)


def _guesses_left(guard: Limits, user: User | None, name: str) -> int | None:
    """How many more wrong passwords the account may get after this one; None when it is locked.

    A name without an account is counted too, so that it takes as long.
    """
    subject = account_subject(user.id) if user else name_subject(name)
    try:
        return guard.charge(guard.rules.login_account, subject)
    except TooManyRequests:
        return None


def _keep_as_is_usual_now(services: Services, user: User, password: str) -> None:
    """Hash the password again where its hash was made at another cost than new ones are."""
    hasher, kept = services.once(password_hasher), user.password_hash
    if kept is None or not hasher.is_outdated(kept):
        return
    renewed = hasher.hash(password)
    with services.database.system() as session:
        if repository.replace_hash(session, user.id, kept, renewed):
            user.password_hash = renewed
            return
        other = repository.locked_account(session, user.id).password_hash
    if hasher.matches(
        password, other
    ):  # another log-in renewed it; else it was changed, as `start_session` will say
        user.password_hash = other


def _standing(row: RefreshToken) -> Standing:
    if row.revoked_at is not None or row.expires_at <= datetime.now(UTC):
        return Standing.ENDED
    return Standing.GOOD if row.used_at is None else Standing.USED


@dataclass(frozen=True)
class _Link:
    """A refresh token beside its row, which holds its hash only."""

    token: str
    row: RefreshToken


def _new_link(services: Services, user: User, session_id: UUID, started_at: datetime, now: datetime) -> _Link:
    settings = services.settings
    end = started_at + timedelta(days=settings.session_days)
    token = PREFIX + secrets.token_urlsafe(32)
    row = RefreshToken(
        tenant_id=user.tenant_id,
        user_id=user.id,
        session_id=session_id,
        token_hash=secret_hash(token),
        started_at=started_at,
        expires_at=min(now + timedelta(hours=settings.refresh_token_hours), end),
    )
    return _Link(token, row)


def _session(services: Services, user: User, link: _Link) -> Session:
    issuer = services.once(token_issuer)
    credential = Credential(CredentialKind.TOKEN, link.row.session_id)
    principal = Principal(user.id, user.tenant_id, Role(user.role), credential)
    return Session(
        id=link.row.session_id,
        user=user,
        access_token=issuer.issue(principal),
        access_seconds=int(issuer.lifetime.total_seconds()),
        refresh_token=link.token,
        refresh_seconds=round((link.row.expires_at - datetime.now(UTC)).total_seconds()),
    )


def _tell_of_failure(services: Services, user: User | None, address: str | None, *, locked: bool) -> None:
    """Unknown names are told of too, in the default tenant: so that it takes as long."""
    tenant_id = user.tenant_id if user else services.once(default_tenant)
    with unit_of_work(services, tenant_id, Actor(None, "password", address)) as unit:
        subject = ("user", user.id) if user else None
        unit.audit("auth.login", subject=subject, outcome="failure", details={"locked": locked})


def _tell_of_reuse(services: Services, stolen: Holder, address: str | None) -> None:
    services.once(revocations).end_session(stolen.session_id)
    log.warning("a refresh token was used twice; its session is ended", session_id=str(stolen.session_id))
    with unit_of_work(services, stolen.tenant_id, Actor(None, "refresh-token", address)) as unit:
        unit.audit(
            "auth.refresh",
            subject=("user", stolen.user_id),
            outcome="failure",
            details={"session": str(stolen.session_id), "reason": "used twice"},
        )
