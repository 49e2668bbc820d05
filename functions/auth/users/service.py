"""What administrators do to accounts, and what that ends."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from functions.auth.accounts.schemas import Account
from functions.auth.limits import limits
from functions.auth.sessions.service import end_all_sessions
from functions.auth.users import repository
from shared.db.models import User
from shared.errors import Conflict, Forbidden, NotFound
from shared.http.etags import etag_of, require_match
from shared.runtime.services import Services
from shared.runtime.unit import unit_of_work
from shared.security.audit import Actor
from shared.security.principal import Principal
from shared.security.revocations import revocations

ACCESS = ("role", "is_active")
"""Changing one of these ends the account's sessions."""
PERSONAL = ("full_name", "title", "department", "specialty", "institution", "phone")


def find(session: Session, user_id: UUID) -> User:
    """An account of the caller's tenant. Raises NotFound."""
    user = repository.get(session, user_id)
    if user is None:
        raise _missing()
    return user


def change(
    services: Services,
    caller: Principal,
    actor: Actor,
    user_id: UUID,
    changes: dict[str, Any],
    if_match: str | None,
) -> Account:
    """Set the named fields of an account. A new role or state ends its sessions, in every process within seconds;
    saying that it is active also lifts the lock that wrong passwords put on it.

    Raises NotFound, PreconditionFailed, Forbidden for somebody who is no administrator any more, Conflict for an
    administrator who would lose the role by it.
    """
    ended = None
    with unit_of_work(services, caller.tenant_id, actor) as unit:
        user = _locked(unit.session, caller, user_id)
        require_match(if_match, etag_of(user.updated_at))
        changed = {name: value for name, value in changes.items() if getattr(user, name) != value}
        unlock = changes.get("is_active") is True
        details = _told(user, changed) | ({"unlocked": True} if unlock else {})
        if any(name in changed for name in ACCESS):
            _require_other(caller, user)
            ended = end_all_sessions(unit.session, user.id)
        for name, value in changed.items():
            setattr(user, name, value)
        unit.session.flush()
        unit.session.refresh(user)
        unit.audit("user.update", subject=("user", user.id), details=details)
        account = Account.model_validate(user)
    if ended is not None:
        services.once(revocations).end_account(user_id, ended)
    if unlock:
        services.once(limits).forgive(user)
    return account


def remove(services: Services, caller: Principal, actor: Actor, user_id: UUID) -> None:
    """Sever an account from its person; what it owns stays, under a row without a name. Its address is free again.

    Raises NotFound, Forbidden and Conflict as `change` does.
    """
    with unit_of_work(services, caller.tenant_id, actor) as unit:
        user = _locked(unit.session, caller, user_id)
        _require_other(caller, user)
        ended = end_all_sessions(unit.session, user.id)
        repository.delete_credentials(unit.session, user.id)
        _anonymise(user)
        unit.audit("user.delete", subject=("user", user.id))
    services.once(revocations).end_account(user_id, ended)


def _locked(session: Session, caller: Principal, user_id: UUID) -> User:
    """The account, while no administrator of the tenant can be demoted. A token outlives a demotion by seconds, so
    the caller is looked up: with that, and because none changes their own access, one administrator is always left."""
    user, admins = repository.lock_with_admins(session, user_id)
    if caller.user_id not in admins:
        raise Forbidden("this account is no longer an administrator")
    if user is None:
        raise _missing()
    return user


def _require_other(caller: Principal, user: User) -> None:
    if user.id == caller.user_id:
        raise Conflict(
            "administrators cannot demote, deactivate or remove their own account, so that a tenant never loses its "
            "last one; have another administrator do it"
        )


def _told(user: User, changed: dict[str, Any]) -> dict[str, Any]:
    """What the audit log says of a change: the names of fields, and of a role or state also the values."""
    details: dict[str, Any] = {"fields": sorted(changed)}
    for name in ACCESS:
        if name in changed:
            details[name] = {"old": getattr(user, name), "new": changed[name]}
    return details


def _anonymise(user: User) -> None:
    """No one can register these names: neither an e-mail address nor a username may have a colon."""
    user.email, user.username = f"removed:{user.id}@invalid", f"removed:{user.id}"
    user.password_hash = None
    user.is_active = False
    user.deleted_at = datetime.now(UTC)
    for name in PERSONAL:
        setattr(user, name, None)


def _missing() -> NotFound:
    return NotFound("there is no such account")
