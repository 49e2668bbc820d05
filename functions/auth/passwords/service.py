"""Changing a password, and setting a forgotten one by a token that comes by mail."""

import secrets
from datetime import UTC, datetime, timedelta

import structlog

from functions.auth.accounts import repository as accounts
from functions.auth.accounts.service import own_account
from functions.auth.limits import account_subject, address_subject, limits
from functions.auth.mail.postman import postman
from functions.auth.passwords import repository
from functions.auth.passwords.letters import changed_letter, reset_letter
from functions.auth.passwords.rules import password_hasher, password_problem
from functions.auth.sessions.service import Session, end_all_sessions, start_session
from shared.db.models import User
from shared.errors import Conflict, Forbidden, Invalid, TooManyRequests
from shared.runtime.services import Services
from shared.runtime.unit import UnitOfWork, unit_of_work
from shared.security.api_keys import secret_hash
from shared.security.audit import Actor
from shared.security.principal import Principal
from shared.security.revocations import revocations

log = structlog.get_logger(__name__)

PREFIX = "hpr_"


class NoPassword(Conflict):
    """The account is let in by another identity provider only."""


class WrongPassword(Forbidden):
    """The caller is logged in but does not know the password."""


def change_password(
    services: Services, caller: Principal, current: str, new: str, address: str | None
) -> Session:
    """Set a new password. Every session of the account ends; the caller goes on with the new one that is returned.

    Raises Unauthenticated for an account that is closed, NoPassword, Invalid, WrongPassword, TooManyRequests.
    """
    actor = Actor.of(caller, address)
    with services.database.tenant(caller.tenant_id) as session:
        user = own_account(session, caller)
    if user.password_hash is None:
        raise NoPassword("this account has no password yet; get one by POST /api/auth/reset-password")
    _require_good(new, user, "new_password")
    if new == current:
        raise _poor("new_password", "the new password is the one that the account has already")
    _require_current(services, user, current, actor)
    hashed = services.once(password_hasher).hash(new)  # slow on purpose, so before the transaction
    with unit_of_work(services, user.tenant_id, actor) as unit:
        locked = repository.lock_account(unit.session, user.id)
        if locked is None or locked.password_hash != user.password_hash:
            raise Conflict("the account was changed at the same time; log in and try again")
        ended = _set_password(unit, locked, hashed)
        unit.audit("auth.password", subject=("user", user.id))
    services.once(revocations).end_account(user.id, ended)
    return start_session(services, locked, actor)


def charge_address(services: Services, address: str | None) -> None:
    """Count a request for a reset. Raises TooManyRequests, whether or not the requests were for accounts there are."""
    guard = services.once(limits)
    guard.charge(guard.rules.reset_address, address_subject(address))


def request_reset(services: Services, email: str, address: str | None) -> None:
    """Mail a token to the account with this e-mail address. Who asked was answered before, and is told nothing."""
    with services.database.system() as session:
        user = accounts.by_email(session, email)
    if user is None or not user.is_active or not _may_have_another(services, user):
        return
    token = PREFIX + secrets.token_urlsafe(32)
    expires_at = datetime.now(UTC) + timedelta(minutes=services.settings.reset_minutes)
    with unit_of_work(services, user.tenant_id, Actor(None, None, address)) as unit:
        if repository.lock_account(unit.session, user.id) is None:
            return
        repository.delete_unused_resets(unit.session, user.id)
        repository.add_reset(unit.session, user, secret_hash(token), expires_at)
        unit.audit("auth.reset.requested", subject=("user", user.id))
    letter = reset_letter(services.settings, user.email, token)
    services.once(postman).deliver(letter, letter="reset", user_id=str(user.id))


def confirm_reset(services: Services, token: str, new: str, address: str | None) -> User:
    """Set the password of the account that the token was sent to. Every session of the account ends.

    Raises Invalid for a poor password and, in the same words, for a token that is unknown, used, expired, made void
    by a newer one, or of an account that is closed.
    """
    with services.database.system() as session:
        user = repository.holder_of_reset(session, secret_hash(token))
    if user is None:
        raise _void_token()
    _require_good(new, user, "password")
    hashed = services.once(password_hasher).hash(new)
    with unit_of_work(services, user.tenant_id, Actor(user.id, "password-reset", address)) as unit:
        locked = repository.lock_account(unit.session, user.id)
        if locked is None or not repository.use_reset(unit.session, secret_hash(token)):
            raise _void_token()
        ended = _set_password(unit, locked, hashed)
        unit.audit("auth.reset.completed", subject=("user", user.id))
    services.once(revocations).end_account(user.id, ended)
    services.once(limits).forgive(user)
    return user


def tell_of_change(services: Services, user: User) -> None:
    """Mail the owner that the password was changed."""
    letter = changed_letter(services.settings, user.email)
    services.once(postman).deliver(letter, letter="changed", user_id=str(user.id))


def _require_good(password: str, user: User, field: str) -> None:
    local_part = user.email.partition("@")[0]
    problem = password_problem(password, user.email, local_part, user.username)
    if problem is not None:
        raise _poor(field, problem)


def _require_current(services: Services, user: User, password: str, actor: Actor) -> None:
    """A wrong password counts like a log-in that failed: a stolen token is no way to guess the password."""
    guard = services.once(limits)
    guard.charge(guard.rules.login_account, account_subject(user.id))
    if services.once(password_hasher).matches(password, user.password_hash):
        services.once(limits).forgive(user)
        return
    with unit_of_work(services, user.tenant_id, actor) as unit:
        unit.audit("auth.password", subject=("user", user.id), outcome="failure")
    message = "the current password is wrong; whoever forgot it can reset it by POST /api/auth/reset-password"
    raise WrongPassword.of("current_password", message)


def _set_password(unit: UnitOfWork, user: User, hashed: str) -> datetime:
    """Returns from when on access tokens are good, for `revocations`."""
    user.password_hash = hashed
    repository.delete_unused_resets(unit.session, user.id)
    unit.session.flush()
    ended = end_all_sessions(unit.session, user.id)
    unit.session.refresh(user)
    return ended


def _may_have_another(services: Services, user: User) -> bool:
    guard = services.once(limits)
    try:
        guard.charge(guard.rules.reset_account, account_subject(user.id))
    except TooManyRequests:
        log.info("no further reset is mailed for now", user_id=str(user.id))
        return False
    return True


def _poor(field: str, problem: str) -> Invalid:
    return Invalid.of(field, problem)


def _void_token() -> Invalid:
    return _poor("token", "the reset token is unknown, used or expired; ask for another")
