"""Access tokens: EdDSA-signed JWTs (RFC 7519, RFC 8037) that name the user, the tenant and the role."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.db.models.accounts import Role
from shared.errors import Unauthenticated, Unavailable
from shared.ids import uuid7
from shared.security.principal import Credential, CredentialKind, Principal

ISSUER = "hounsfield"
AUDIENCE = "hounsfield-api"
REFETCH_SECONDS = 10
"""Least time between two fetches of the key set, so that tokens with made-up key ids cost nothing."""
STALE_SECONDS = 300
"""A key that is no longer published is trusted no longer than this."""
_NO_KEYS = "the keys that access tokens are checked with cannot be fetched now; try again in some seconds"


class TokenIssuer:
    """Signs access tokens."""

    def __init__(
        self,
        key: Ed25519PrivateKey,
        key_id: str,
        minutes: int,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._key = key
        self._key_id = key_id
        self._clock = clock
        self.lifetime = timedelta(minutes=minutes)

    def issue(self, principal: Principal) -> str:
        """A token for `principal` and the session of its credential, valid from now for `lifetime`."""
        now = self._clock()
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
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self._key_id})


class TokenVerifier:
    """Checks access tokens against a key set, fetched again when a token names a key it does not have."""

    def __init__(
        self,
        fetch: Callable[[], jwt.PyJWKSet],
        clock: Callable[[], float] = time.monotonic,
        is_revoked: Callable[[UUID, UUID, datetime], bool] = lambda *_: False,
    ) -> None:
        """`is_revoked(user id, session id, issued at)` tells of tokens that were called back."""
        self._fetch = fetch
        self._is_revoked = is_revoked
        self._clock = clock
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched = float("-inf")
        self._missed = False
        self._lock = threading.Lock()

    def has_key_of(self, token: str) -> bool:
        """Whether `verify` needs no new key set for this token: it then answers without waiting."""
        try:
            known = jwt.get_unverified_header(token).get("kid") in self._keys
            return known and not self._is_stale()
        except jwt.InvalidTokenError:
            return True

    def verify(self, token: str) -> Principal:
        """Who the token was issued to. Raises Unauthenticated; Unavailable where its key cannot be fetched."""
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=["EdDSA"],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": ["exp", "sub", "iat"]},
            )
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

    def _key(self, key_id: str | None) -> jwt.PyJWK:
        """A key that is here never waits. Raises KeyError, and Unavailable where the key set cannot be had now."""
        known = self._keys.get(key_id)
        if known is not None and not self._is_stale():
            return known
        # While one caller fetches, others wait only if nobody could be let in without the answer anyway.
        if not self._lock.acquire(blocking=not self._keys):
            if known is not None:
                return known
            raise Unavailable(_NO_KEYS)
        try:
            self._refetch(key_id)
        finally:
            self._lock.release()
        if self._missed and key_id not in self._keys:
            raise Unavailable(_NO_KEYS)
        return self._keys[key_id]

    def _is_stale(self) -> bool:
        return self._clock() - self._fetched >= STALE_SECONDS

    def _refetch(self, key_id: str | None) -> None:
        """Not again soon after the last time, which is noted before: a fetch that fails is not repeated at once either.

        Where it fails, the keys of before stay; Unavailable is raised only if they are not enough.
        """
        if self._clock() - self._fetched < (STALE_SECONDS if key_id in self._keys else REFETCH_SECONDS):
            return
        self._fetched = self._clock()
        self._missed = True
        try:
            self._keys = {key.key_id: key for key in self._fetch().keys}
            self._missed = False
        except Unavailable:
            if key_id not in self._keys:
                raise
