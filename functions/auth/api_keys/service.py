"""Which keys are made, and how they end."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from functions.auth.api_keys import repository
from functions.auth.api_keys.schemas import MAX_DAYS, KeyRequest
from shared.db.models import ApiKey, Role
from shared.errors import Conflict, Invalid, NotFound, Unauthenticated
from shared.runtime.unit import UnitOfWork
from shared.security.api_keys import SHOWN_CHARACTERS, new_key, secret_hash
from shared.security.policy import DEFAULT_SCOPES, GRANTABLE, Action, Reach, reach
from shared.security.principal import Principal

MAX_LIVE = 50


def make_key(unit: UnitOfWork, caller: Principal, request: KeyRequest) -> tuple[ApiKey, str]:
    """A new key of the caller's: its row, and the key itself, which is not kept.

    Raises Invalid, Conflict over MAX_LIVE keys, Unauthenticated where the account was closed meanwhile.
    """
    owner = repository.lock_owner(unit.session, caller.user_id)
    if owner is None or not owner.is_active:
        raise Unauthenticated("the account of this access token is closed")
    scopes = _scopes(request.scopes, Role(owner.role))
    expires_at = _expiry(request, datetime.now(UTC))
    if repository.count_live(unit.session, caller.user_id) >= MAX_LIVE:
        raise Conflict(f"an account has at most {MAX_LIVE} keys that are good; revoke one first")
    secret = new_key()
    key = ApiKey(
        tenant_id=caller.tenant_id,
        user_id=caller.user_id,
        name=request.name,
        prefix=secret[:SHOWN_CHARACTERS],
        key_hash=secret_hash(secret),
        scopes=scopes,
        expires_at=expires_at,
    )
    unit.session.add(key)
    unit.session.flush()
    unit.audit("api_key.create", subject=("api_key", key.id), details={"scopes": list(scopes)})
    return key, secret


def revoke_key(unit: UnitOfWork, user_id: UUID, key_id: UUID) -> None:
    """Make a key useless, at once in every process; revoking it again changes nothing. Raises NotFound."""
    key = repository.get(unit.session, user_id, key_id)
    if key is None:
        raise NotFound("there is no such API key")
    if key.revoked_at is None:
        key.revoked_at = datetime.now(UTC)
        unit.audit("api_key.revoke", subject=("api_key", key.id), details={"owner": str(user_id)})


def _scopes(wanted: Sequence[str] | None, role: Role) -> list[str]:
    """What the key may be used for. Raises Invalid for what no key, or none of this role, may do."""
    allowed = {action for action in GRANTABLE if reach(role, action) is not Reach.NONE}
    if wanted is None:
        return _in_order(DEFAULT_SCOPES & allowed)
    if not set(wanted) <= {action.value for action in allowed}:
        message = f"a key of the role {role} may be for: {', '.join(_in_order(allowed))}"
        raise Invalid.of("scopes", message)
    return _in_order({Action(scope) for scope in wanted})


def _in_order(scopes: set[Action] | frozenset[Action]) -> list[str]:
    return [action.value for action in Action if action in scopes]


def _expiry(request: KeyRequest, now: datetime) -> datetime | None:
    if request.expires_in_days is not None:
        return now + timedelta(days=request.expires_in_days)
    if request.expires_at is not None and not now < request.expires_at <= now + timedelta(days=MAX_DAYS):
        raise Invalid.of(
            "expires_at",
            f"a key expires in the future, at most {MAX_DAYS} days ahead; leave the field out for one that does not "
            "expire",
        )
    return request.expires_at
