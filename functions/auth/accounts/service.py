"""Who gets an account, and what people say about themselves."""

import re
import secrets
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import structlog
from pydantic import SecretStr
from sqlalchemy.orm import Session

from functions.auth.accounts import repository
from functions.auth.accounts.repository import Taken
from functions.auth.accounts.schemas import ProfileChange, Registration
from functions.auth.accounts.tenants import DEFAULT_TENANT, default_tenant, tenant_named
from functions.auth.limits import address_subject, limits
from functions.auth.passwords.rules import password_hasher, password_problem
from functions.auth.sessions.service import end_all_sessions
from shared.db.models import User
from shared.db.models.accounts import Role
from shared.errors import Conflict, Forbidden, Invalid, Unauthenticated
from shared.runtime.services import Services
from shared.runtime.unit import UnitOfWork, unit_of_work
from shared.security.audit import Actor
from shared.security.policy import Action, Reach
from shared.security.principal import Principal
from shared.security.revocations import revocations

log = structlog.get_logger(__name__)

COMMAND_LINE = Actor(None, "command-line")
"""Whoever may start the program; the first administrator comes from there."""
_NAME_TRIES = 5


def register(
    services: Services, registration: Registration, caller: Principal | None, address: str | None
) -> User:
    """Make an account for the caller or, when an administrator calls, for somebody of the same tenant.

    Raises Forbidden where registration is closed, Invalid for a poor password, Taken, TooManyRequests.
    """
    if caller is not None and caller.reach(Action.USERS) is Reach.TENANT:
        _require_still_admin(services, caller)
        role = registration.role or Role.USER
        actor = Actor.of(caller, address)
        return create_user(services, registration, actor, role=role, tenant_id=caller.tenant_id)
    if not services.settings.allow_registration:
        raise Forbidden("registration is closed here; ask an administrator for an account")
    guard = services.once(limits)
    guard.charge(guard.rules.register_address, address_subject(address))
    return create_user(services, registration, Actor(None, "registration", address))


def create_user(
    services: Services,
    registration: Registration,
    actor: Actor,
    *,
    role: Role = Role.USER,
    tenant_id: UUID | None = None,
) -> User:
    """Make an account, in the default tenant unless another is named; `registration.role` is not looked at.

    Raises Invalid for a poor password, Taken.
    """
    password = good_password(registration)
    hashed = services.once(password_hasher).hash(password)  # slow on purpose, so before the transaction
    profile = registration.model_dump(exclude={"email", "username", "password", "role"})
    return add_user(
        services,
        actor,
        tenant_id or services.once(default_tenant),
        usernames(registration.email, registration.username),
        {"email": registration.email, "password_hash": hashed, "role": role, **profile},
    )


def add_user(
    services: Services, actor: Actor, tenant_id: UUID, candidates: Iterator[str], account: dict[str, Any]
) -> User:
    """Insert an account under the first username that is free. Raises Taken."""
    with unit_of_work(services, tenant_id, actor) as unit:
        user = _add(unit.session, candidates, {"tenant_id": tenant_id, **account})
        unit.audit("user.create", subject=("user", user.id), details={"role": user.role})
        return user


def make_first_admin(services: Services, email: str, password: str) -> None:
    """Make an administrator where the default tenant has none that is active. Whoever has an account stays what they
    are: a restart brings nobody back whom another administrator removed, closed or demoted.

    Raises pydantic.ValidationError for a bad address, Invalid for a poor password.
    """
    registration = Registration(email=email, password=SecretStr(password))
    tenant_id = services.once(default_tenant)
    if _has_admin(services, tenant_id):
        return
    try:
        create_user(services, registration, COMMAND_LINE, role=Role.ADMIN, tenant_id=tenant_id)
    except Taken:
        # Else another replica that started at the same time was first.
        if not _has_admin(services, tenant_id):
            log.warning(
                "no first administrator was made: HOUNSFIELD_ADMIN_EMAIL has an account already; if it is of the "
                "default tenant, `hounsfield create-admin` promotes it"
            )


def ensure_admin(services: Services, email: str, password: str, tenant: str = DEFAULT_TENANT) -> bool:
    """Make sure that `email` is an active administrator; returns whether they now have the password that is given
    here. One that is already keeps theirs.

    An account that is promoted gets the password that is given here, and its sessions end: whoever registered the
    address before, with a password of their own, must not become an administrator by it.
    Raises, before anything is made, pydantic.ValidationError for a bad address, Invalid for a poor password or tenant,
    Conflict where the account belongs to another tenant.
    """
    registration = Registration(email=email, password=SecretStr(password))
    with services.database.system() as session:
        user = repository.by_email(session, registration.email)
        home = user and repository.slug_of(session, user)
    if user is None:
        good_password(registration)
        tenant_id = tenant_named(services, tenant)
        create_user(services, registration, COMMAND_LINE, role=Role.ADMIN, tenant_id=tenant_id)
        return True
    if home != tenant:
        raise Conflict("the account with this e-mail address belongs to another tenant")
    if user.role == Role.ADMIN and user.is_active:
        return False
    _promote(services, user, good_password(registration))
    return True


def own_account(session: Session, caller: Principal) -> User:
    """The caller's account. Raises Unauthenticated when it is gone or closed since the token was issued."""
    user = repository.get(session, caller.user_id)
    if user is None or not user.is_active:
        raise Unauthenticated("the account of this access token is closed")
    return user


def change_profile(unit: UnitOfWork, caller: Principal, profile: ProfileChange) -> User:
    """Set the profile fields that the caller sent. Raises Unauthenticated as `own_account` does."""
    user = own_account(unit.session, caller)
    sent = profile.changes(user.full_name)
    changed = [field for field, value in sent.items() if getattr(user, field) != value]
    for field in changed:
        setattr(user, field, sent[field])
    unit.session.flush()
    if changed:
        unit.audit("user.update", subject=("user", user.id), details={"fields": sorted(changed)})
    return user


def _require_still_admin(services: Services, caller: Principal) -> None:
    """A token outlives a demotion by REVOCATION_SECONDS in other processes; it must not make administrators meanwhile."""
    with services.database.system() as session:
        user = own_account(session, caller)
    if user.role != Role.ADMIN:
        raise Forbidden("this account is no longer an administrator")


def good_password(registration: Registration) -> str:
    """The password that somebody registers with. Raises Invalid, naming the field, for a poor one."""
    password = registration.password.get_secret_value()
    local_part = registration.email.partition("@")[0]
    problem = password_problem(password, registration.email, local_part, registration.username or local_part)
    if problem is not None:
        raise Invalid.of("password", problem)
    return password


def _has_admin(services: Services, tenant_id: UUID) -> bool:
    with services.database.tenant(tenant_id) as session:
        return repository.has_admin(session)


def _promote(services: Services, user: User, password: str) -> None:
    hashed = services.once(password_hasher).hash(password)
    with unit_of_work(services, user.tenant_id, COMMAND_LINE) as unit:
        user = unit.session.get_one(User, user.id)
        user.password_hash, user.role, user.is_active = hashed, Role.ADMIN, True
        moment = end_all_sessions(unit.session, user.id)
        unit.audit("user.update", subject=("user", user.id), details={"role": Role.ADMIN, "password": "set"})
    services.once(revocations).end_account(user.id, moment)


def usernames(email: str, wanted: str | None) -> Iterator[str]:
    """The username that is wanted, or some made from the e-mail address until one is free."""
    if wanted is not None:
        yield wanted
        return
    stem = re.sub(r"[^A-Za-z0-9._+-]", "", email.partition("@")[0])[:48].lstrip("._+-")
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
