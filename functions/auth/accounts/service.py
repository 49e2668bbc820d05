"""Who gets an account, who gets a token."""

import re
import secrets
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy.orm import Session

from functions.auth.accounts import repository
from functions.auth.accounts.repository import Taken
from functions.auth.accounts.schemas import Registration
from functions.auth.passwords.rules import password_hasher, password_problem
from shared.db.models import User
from shared.db.models.accounts import Role
from shared.errors import Forbidden, Invalid, Unauthenticated
from shared.runtime.services import Services
from shared.security.policy import Action, Reach
from shared.security.principal import Principal

DEFAULT_TENANT = "default"
_NAME_TRIES = 5


def register(services: Services, registration: Registration, caller: Principal | None) -> User:
    """Make an account for the caller or, when an administrator calls, for somebody of the same tenant.

    Raises Forbidden where registration is closed, Invalid for a poor password, Taken.
    """
    if caller is not None and caller.reach(Action.USERS) is Reach.TENANT:
        _require_still_admin(services, caller)
        role = registration.role or Role.USER
        return create_user(services, registration, role=role, tenant_id=caller.tenant_id)
    if not services.settings.allow_registration:
        raise Forbidden("registration is closed here; ask an administrator for an account")
    return create_user(services, registration)


def create_user(
    services: Services, registration: Registration, *, role: Role = Role.USER, tenant_id: UUID | None = None
) -> User:
    """Make an account, in the default tenant unless another is named; `registration.role` is not looked at.

    Raises Invalid for a poor password, Taken.
    """
    password = _good_password(registration)
    hashed = services.once(password_hasher).hash(password)  # slow on purpose, so before the transaction
    profile = registration.model_dump(exclude={"email", "username", "password", "role"})
    with services.database.system() as session:
        tenant_id = tenant_id or repository.tenant_named(session, DEFAULT_TENANT, "Default")
        account = {"tenant_id": tenant_id, "email": registration.email, "password_hash": hashed, "role": role}
        return _add(session, _usernames(registration), {**account, **profile})


def ensure_admin(services: Services, email: str, password: str) -> User:
    """Make sure that `email` is an active administrator. One that is already keeps its password.

    An account that is promoted gets the password that is given here: whoever registered the address before, with a
    password of their own, must not become an administrator by it.
    Raises pydantic.ValidationError for a bad address, Invalid for a poor password.
    """
    registration = Registration(email=email, password=SecretStr(password))
    promoted = _promote(services, registration)
    if promoted is not None:
        return promoted
    try:
        return create_user(services, registration, role=Role.ADMIN)
    except Taken:  # another replica that started at the same time was first
        promoted = _promote(services, registration)
        if promoted is None:
            raise
        return promoted


def own_account(session: Session, caller: Principal) -> User:
    """The caller's account. Raises Unauthenticated when it is gone or closed since the token was issued."""
    user = repository.get(session, caller.user_id)
    if user is None or not user.is_active:
        raise Unauthenticated("the account of this access token is closed")
    return user


def change_profile(session: Session, caller: Principal, changes: dict[str, Any]) -> User:
    """Set the named profile fields of the caller. Raises Unauthenticated as `own_account` does."""
    user = own_account(session, caller)
    for field, value in changes.items():
        setattr(user, field, value)
    session.flush()
    return user


def _require_still_admin(services: Services, caller: Principal) -> None:
    """A token outlives a demotion by up to an hour; it must not be used to make administrators meanwhile."""
    with services.database.system() as session:
        user = own_account(session, caller)
    if user.role != Role.ADMIN:
        raise Forbidden("this account is no longer an administrator")


def _good_password(registration: Registration) -> str:
    password = registration.password.get_secret_value()
    local_part = registration.email.partition("@")[0]
    problem = password_problem(password, registration.email, local_part, registration.username or local_part)
    if problem is not None:
        raise Invalid(problem, errors=[{"field": "password", "message": problem}])
    return password


def _promote(services: Services, registration: Registration) -> User | None:
    with services.database.system() as session:
        user = repository.by_email(session, registration.email)
        if user is not None and not (user.role == Role.ADMIN and user.is_active):
            user.password_hash = services.once(password_hasher).hash(_good_password(registration))
            user.role, user.is_active = Role.ADMIN, True
            session.flush()
            session.refresh(user)
        return user


def _usernames(registration: Registration) -> Iterator[str]:
    """The username that was asked for, or some made from the e-mail address until one is free."""
    if registration.username is not None:
        yield registration.username
        return
    stem = re.sub(r"[^A-Za-z0-9._+-]", "", registration.email.partition("@")[0])[:48].lstrip("._+-")
    if len(stem) >= 2:
        yield stem
    for _ in range(_NAME_TRIES):
        yield f"{stem or 'user'}-{secrets.token_hex(4)}"


def _add(session: Session, usernames: Iterator[str], account: dict[str, Any]) -> User:
    taken = Taken("username")
    for username in usernames:
        try:
            user = User(username=username, **account)
            repository.add(session, user)
            return user
        except Taken as error:
            if error.field != "username":
                raise
            taken = error
    raise taken
