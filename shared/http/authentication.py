"""Who calls: by access token or API key in a header, or by the cookies of a browser's session."""

from dataclasses import replace
from uuid import UUID

from fastapi.security.utils import get_authorization_scheme_param
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import Scope

from shared.errors import Unauthenticated
from shared.http.cookies import CSRF_HEADER, SAFE_METHODS, cookie_names, cookies_of, csrf_tokens
from shared.runtime.services import Services
from shared.security.api_keys import PREFIX, verify_key
from shared.security.keys import token_verifier
from shared.security.principal import Credential, CredentialKind, Principal

API_KEY_HEADER = "x-api-key"


def bearer_token(authorization: str | None) -> str | None:
    """The token of an `Authorization: Bearer <token>` header; None without one (RFC 6750 §2.1)."""
    scheme, token = get_authorization_scheme_param(authorization)
    return token if scheme.lower() == "bearer" and token else None


def is_signed(headers: Headers) -> bool:
    """Whether a header says who the request is from, rightly or not."""
    return "authorization" in headers or API_KEY_HEADER in headers


async def authenticate(services: Services, scope: Scope) -> Principal:
    """The caller. A header counts before a cookie. An access token costs no database query, an API key costs one.

    Raises Unauthenticated; Forbidden for a cookie without its CSRF token; Unavailable.
    """
    headers = Headers(scope=scope)
    if is_signed(headers):
        secret = bearer_token(headers.get("authorization")) or headers.get(API_KEY_HEADER)
        if not secret:
            raise Unauthenticated("the Authorization header must be: Bearer <access token or API key>")
        if secret.startswith(PREFIX):
            return await run_in_threadpool(verify_key, services.database, secret)
        return await _verify(services, secret)
    names = cookie_names(scope, services.settings)
    cookies = cookies_of(scope)
    token = cookies.get(names.access)
    if token is None:
        raise Unauthenticated(
            "send the access token of POST /api/auth/login, or an API key, as: Authorization: Bearer <token>"
        )
    principal = await _verify(services, token)
    session_id = session_of(principal)
    if scope["method"] not in SAFE_METHODS:
        services.once(csrf_tokens).check(session_id, cookies.get(names.csrf), headers.get(CSRF_HEADER))
    return replace(principal, credential=Credential(CredentialKind.SESSION, session_id))


def session_of(principal: Principal) -> UUID:
    """The session of somebody who came by access token. Raises ValueError for an API key."""
    if principal.credential is None or principal.credential.kind is CredentialKind.API_KEY:
        raise ValueError("an API key has no session")
    return principal.credential.id


async def _verify(services: Services, token: str) -> Principal:
    """In a thread only where the key set must be fetched first: switching costs more than the check."""
    verifier = services.once(token_verifier)
    if verifier.has_key_of(token):
        return verifier.verify(token)
    return await run_in_threadpool(verifier.verify, token)
