"""Whose account somebody from a provider gets: their own, one with their e-mail address, or a new one."""

from datetime import UTC, datetime
from uuid import UUID

import structlog

from functions.auth.accounts import repository as users
from functions.auth.accounts.repository import Taken
from functions.auth.accounts.service import usernames
from functions.auth.accounts.tenants import default_tenant
from functions.auth.oidc import repository
from functions.auth.oidc.people import Person
from functions.auth.sessions.repository import void_access_tokens
from functions.auth.sessions.service import end_all_sessions
from functions.auth.users.repository import lock_with_admins
from shared.db.models import Role, User
from shared.errors import Conflict, Forbidden
from shared.runtime.services import Services
from shared.runtime.unit import UnitOfWork, unit_of_work
from shared.security.audit import Actor
from shared.security.revocations import revocations

log = structlog.get_logger(__name__)


def known_account(services: Services, person: Person) -> User | None:
    """The account that somebody had here before, or that has their address."""
    with services.database.system() as session:
        found = repository.owner(session, person.issuer, person.subject)
        if found is None and person.email is not None:
            found = users.by_email(session, person.email)
        return found


def account_of(services: Services, person: Person, found: User | None, address: str | None) -> User:
    """The account, linked or made if need be, with the role that the provider gives; `found` is the known one.

    Raises Forbidden for a closed account or somebody without an address, Conflict where the address is taken.
    """
    tenant_id = found.tenant_id if found else services.once(default_tenant)
    began = datetime.now(UTC)
    with unit_of_work(services, tenant_id, Actor(None, "oidc", address)) as unit:
        repository.wait_for_turn(unit.session, person.issuer, person.subject)
        loses_admin = found and found.role == Role.ADMIN and person.role not in (None, Role.ADMIN)
        # Before anything is written, so that two administrators do not wait for each other.
        admins = lock_with_admins(unit.session, found.id)[1] if found and loses_admin else set()
        user = _own(unit, person) or _linked(unit, person) or _made(unit, person)
        if not user.is_active:
            raise Forbidden("this account is closed; an administrator can open it again")
        _set_role(unit, user, person.role, admins - {user.id})
    if user.tokens_from is not None and user.tokens_from >= began:
        services.once(revocations).end_account(user.id, user.tokens_from)
    return user


def _own(unit: UnitOfWork, person: Person) -> User | None:
    return repository.owner(unit.session, person.issuer, person.subject)


def _linked(unit: UnitOfWork, person: Person) -> User | None:
    """The account with the person's address, if the provider has verified that it is theirs.

    Whoever registered the address here before need not have been its owner, so everything that let them in is voided
    (account pre-hijacking: Sudhodanan and Paverd, USENIX Security 2022).
    """
    user = users.by_email(unit.session, _address(person))
    if user is None or not user.is_active:
        return user
    if not person.email_verified:
        raise Conflict(
            "an account here has your e-mail address, and the identity provider does not say that the address is "
            "verified (email_verified), so that it may be somebody else's; ask an administrator"
        )
    repository.void_other_ways_in(unit.session, user)
    user.tokens_from = end_all_sessions(unit.session, user.id)
    repository.add(unit.session, user, person.issuer, person.subject)
    unit.audit("auth.link", subject=("user", user.id), details={"issuer": person.issuer})
    return user


def _made(unit: UnitOfWork, person: Person) -> User:
    """A new account. Where the provider says that the address is not verified, none is made: the address would be
    taken from its owner, who could later be led into an account that somebody else uses too."""
    email = _address(person)
    if person.email_verified is False:
        raise Forbidden("your e-mail address is not verified at the identity provider; verify it there first")
    for username in usernames(email, None):
        user = User(
            tenant_id=unit.tenant_id, email=email, username=username, full_name=person.name, role=Role.USER
        )
        try:
            users.add(unit.session, user)
            break
        except Taken as error:
            if error.field != "username":
                raise
    else:
        raise Taken("username")
    repository.add(unit.session, user, person.issuer, person.subject)
    unit.audit("user.create", subject=("user", user.id), details={"issuer": person.issuer})
    return user


def _address(person: Person) -> str:
    if person.email is None:
        raise Forbidden(
            "the identity provider does not tell your e-mail address, which an account here needs; an administrator "
            "can have it released to us (scope email)"
        )
    return person.email


def _set_role(unit: UnitOfWork, user: User, role: Role | None, other_admins: set[UUID]) -> None:
    """Give the account its role at the provider; access tokens with the old one are void. Who is the only active
    administrator of the tenant stays one, whatever the provider says."""
    if role is None or role == user.role:
        return
    details = {"role": role.value, "before": user.role}
    if user.role == Role.ADMIN and not other_admins:
        log.warning("the last administrator keeps the role, whatever the provider says", user_id=str(user.id))
        unit.audit("user.update", subject=("user", user.id), details=details, outcome="failure")
        return
    user.role, now = role, datetime.now(UTC)
    unit.session.flush()
    void_access_tokens(unit.session, user.id, now)
    user.tokens_from = now
    unit.audit("user.update", subject=("user", user.id), details=details)
