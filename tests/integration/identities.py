"""Who else calls: everybody to whom the victim's things are none of their business."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from functions.auth.sessions.service import Holder, end_session, start_session
from shared.db.models import Role, User
from shared.http.cookies import SAFE_METHODS
from shared.runtime.services import Services
from shared.security.audit import Actor
from shared.security.keys import key_store, token_issuer
from shared.security.policy import GRANTABLE, Reach, reach
from shared.security.principal import Principal
from shared.security.revocations import revocations
from shared.security.tokens import AUDIENCE, ISSUER, TokenIssuer
from tests.builders import make_user
from tests.integration.operations import Operation
from tests.integration.victims import Victim, add_api_key

HOUR = timedelta(hours=1)
Headers = dict[str, str]


@dataclass(frozen=True)
class Identity:
    """Somebody, by what they send; `role` where they are let in as somebody, to their own things."""

    name: str
    headers: Callable[[Operation], Headers]
    role: Role | None = None

    def may(self, operation: Operation) -> bool:
        """Whether the policy lets them do this to something of their own."""
        return self.role is not None and reach(self.role, operation.action) is not Reach.NONE

    def tries(self, operation: Operation) -> bool:
        """Whether this identity says anything about the operation."""
        return not (self.name.endswith("no CSRF token") and operation.method in SAFE_METHODS)


def identities(services: Services, victim: Victim, admin: Principal, other_tenant: UUID) -> list[Identity]:
    """Everybody but the victim and the administrator of the victim's tenant.

    What is wrong with a credential is tried on theirs: were it not noticed, the door would be open.
    """
    database = services.database
    others = [
        _let_in(services, make_user(database, victim.tenant_id, role)) for role in Role if role != "admin"
    ]
    foreign = [
        _let_in(services, make_user(database, other_tenant, role), "another tenant's") for role in Role
    ]
    bad = [
        *_bad_credentials(services, victim.user, "the victim's"),
        *_bad_credentials(services, admin, "the administrator's"),
    ]
    nobody = Identity("nobody", lambda operation: {})
    nonsense = _fixed("a nonsense token", "not-a-token")
    return [nobody, nonsense, *bad, *_deactivated(services, victim.tenant_id), *others, *foreign]


def bearer(services: Services, user: Principal) -> Headers:
    """Headers of somebody who is logged in."""
    return {"Authorization": f"Bearer {services.once(token_issuer).issue(user)}"}


def _let_in(services: Services, user: Principal, whose: str = "the same tenant's") -> Identity:
    headers = bearer(services, user)
    return Identity(f"{whose} {user.role}", lambda operation: headers, user.role)


def _fixed(name: str, secret: str) -> Identity:
    return Identity(name, lambda operation: {"Authorization": f"Bearer {secret}"})


def _bad_credentials(services: Services, user: Principal, whose: str) -> list[Identity]:
    key = services.once(key_store).signing.current
    other = replace(key, value=Ed25519PrivateKey.generate())
    long_ago = datetime.now(UTC) - 2 * HOUR
    claims = jwt.decode(services.once(token_issuer).issue(user), options={"verify_signature": False})
    public = key.value.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    tokens = {
        "expired token": TokenIssuer(lambda: key, 15, lambda: long_ago).issue(user),
        "token signed by another key": TokenIssuer(lambda: other, 15).issue(user),
        "token with alg none": jwt.encode(claims, None, "none", headers={"kid": key.id}),
        "token signed with the public key as a secret": jwt.encode(claims, public, "HS256", {"kid": key.id}),
        "token for another audience": jwt.encode(
            {**claims, "aud": "else"}, key.value, "EdDSA", {"kid": key.id}
        ),
        "token without its signature": services.once(token_issuer).issue(user).rpartition(".")[0] + ".",
        "token of an ended session": _ended_token(services, user),
        **_bad_keys(services, user),
    }
    assert (claims["aud"], claims["iss"]) == (AUDIENCE, ISSUER)
    return [
        *(_fixed(f"{whose} {name}", token) for name, token in tokens.items()),
        _without_scope(services, user, whose),
        _without_csrf(services, user, whose),
    ]


def _ended_token(services: Services, user: Principal) -> str:
    """Of somebody who logged out."""
    actor = Actor(user.user_id, "password", None)
    with services.database.tenant(user.tenant_id) as session:
        row = session.get_one(User, user.user_id)
    started = start_session(services, row, actor)
    end_session(services, Holder(started.id, user.user_id, user.tenant_id), actor)
    return started.access_token


def _bad_keys(services: Services, user: Principal) -> dict[str, str]:
    now = datetime.now(UTC)
    with services.database.tenant(user.tenant_id) as session:
        return {
            "revoked API key": add_api_key(session, user, revoked_at=now)[1],
            "expired API key": add_api_key(session, user, expires_at=now - HOUR)[1],
        }


def _without_scope(services: Services, user: Principal, whose: str) -> Identity:
    """A key that may do everything that a key can, but for what the operation asks."""
    with services.database.tenant(user.tenant_id) as session:
        keys = {
            action: add_api_key(session, user, scopes=sorted(GRANTABLE - {action}))[1]
            for action in [*GRANTABLE, None]
        }

    def headers(operation: Operation) -> Headers:
        action = None if operation.is_public or operation.action not in GRANTABLE else operation.action
        return {"X-API-Key": keys[action]}

    return Identity(f"{whose} API key without the scope", headers)


def _without_csrf(services: Services, user: Principal, whose: str) -> Identity:
    """A browser that another site told to send this: the cookie comes by itself, the token does not."""
    cookie = {"Cookie": f"hounsfield_access={services.once(token_issuer).issue(user)}"}
    return Identity(f"{whose} cookie with no CSRF token", lambda operation: cookie)


def _deactivated(services: Services, tenant_id: UUID) -> list[Identity]:
    """An administrator who is none any more, in a process that has read so."""
    user = make_user(services.database, tenant_id, Role.ADMIN)
    token = services.once(token_issuer).issue(user)
    with services.database.tenant(tenant_id) as session:
        _, key = add_api_key(session, user, scopes=sorted(GRANTABLE))
        row = session.get_one(User, user.user_id)
        row.is_active, row.tokens_from = False, datetime.now(UTC)
    services.once(revocations).refresh()
    return [
        _fixed("a deactivated administrator's token", token),
        _fixed("a deactivated administrator's API key", key),
    ]
