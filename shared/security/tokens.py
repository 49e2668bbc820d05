"""Access tokens: EdDSA-signed JWTs (RFC 7519, RFC 8037) that name the user, the tenant and the role."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.db.models.accounts import Role
from shared.errors import Unauthenticated
from shared.ids import uuid7
from shared.security.principal import Credential, CredentialKind, Principal
from shared.security.rings import RingKey
from shared.security.token_keys import TokenKeys

ISSUER = "hounsfield"
AUDIENCE = "hounsfield-api"
SKEW_SECONDS = 5
"""How far the issuer's clock may be ahead of ours."""


class TokenIssuer:
    """Signs access tokens."""

    def __init__(
        self,
        key: Callable[[], RingKey[Ed25519PrivateKey]],
        minutes: int,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`key()`: the one to sign with now."""
        self._key = key
        self._clock = clock
        self.lifetime = timedelta(minutes=minutes)

    def issue(self, principal: Principal) -> str:
        """A token for `principal` and the session of its credential, valid from now for `lifetime`."""
        now, key = self._clock(), self._key()
        session_id = principal.credential.id if principal.credential else uuid7()
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(principal.user_id),
            "tenant": str(principal.tenant_id),
            "role": principal.role.value,
            "sid": str(session_id),
            "jti": str(uuid7()),
            "iat": now.timestamp(),  # with its fraction: a token made right after a change of password is good
            "exp": now + self.lifetime,
        }
        return jwt.encode(claims, key.value, algorithm="EdDSA", headers={"kid": key.id})


class TokenVerifier:
    """Checks access tokens."""

    def __init__(
        self,
        keys: TokenKeys,
        is_revoked: Callable[[UUID, UUID, datetime], bool] = lambda *_: False,
    ) -> None:
        """`is_revoked(user id, session id, issued at)` tells of tokens that were called back."""
        self._keys = keys
        self._is_revoked = is_revoked

    def has_key_of(self, token: str) -> bool:
        """Whether `verify` answers without waiting for the token's key."""
        try:
            return self._keys.has(_key_id(token))
        except jwt.InvalidTokenError:
            return True

    def verify(self, token: str) -> Principal:
        """Who the token was issued to. Raises Unauthenticated; Unavailable where its key cannot be fetched."""
        try:
            claims = self._claims(token)
            user_id, session_id = UUID(claims["sub"]), UUID(claims["sid"])
            issued_at = datetime.fromtimestamp(claims["iat"], UTC)
            credential = Credential(CredentialKind.TOKEN, session_id)
            principal = Principal(user_id, UUID(claims["tenant"]), Role(claims["role"]), credential)
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the access token has expired; log in again") from None
        except (jwt.InvalidTokenError, KeyError, ValueError):
            raise Unauthenticated("the access token is not valid here") from None
        if self._is_revoked(user_id, session_id, issued_at):
            raise Unauthenticated("the session of this access token has ended; log in again")
        return principal

    def _claims(self, token: str) -> dict[str, Any]:
        claims = jwt.decode(
            token,
            self._keys.get(_key_id(token)),
            algorithms=["EdDSA"],
            audience=AUDIENCE,
            issuer=ISSUER,
            leeway=SKEW_SECONDS,
            options={"require": ["exp", "sub", "iat"]},
        )
        if int(claims["exp"]) <= time.time():  # the leeway is for `iat` alone
            raise jwt.ExpiredSignatureError
        return claims


def _key_id(token: str) -> str:
    return str(jwt.get_unverified_header(token).get("kid"))
