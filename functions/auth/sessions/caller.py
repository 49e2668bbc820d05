"""Whose session a request to refresh or log out is about."""

from typing import Annotated

from fastapi import Body, Request
from starlette.concurrency import run_in_threadpool

from functions.auth.sessions.browser import refresh_cookie, require_csrf
from functions.auth.sessions.schemas import Logout
from functions.auth.sessions.service import Holder, holder_of_token
from shared.errors import BadRequest, Unauthenticated
from shared.http.authentication import authenticate, session_of
from shared.http.deps import ServicesDep
from shared.runtime.services import Services
from shared.security.principal import CredentialKind


def browser_token(request: Request, services: Services) -> str:
    """The refresh token in the cookie of a request from our own page. Raises Unauthenticated, Forbidden."""
    token = refresh_cookie(request, services)
    if token is None:
        raise Unauthenticated('send the refresh token of POST /api/auth/login as: {"refresh_token": …}')
    require_csrf(request, services, _holder(services, token).session_id)
    return token


async def leaving_session(
    request: Request, services: ServicesDep, body: Annotated[Logout | None, Body()] = None
) -> Holder:
    """The session of the refresh token in the body, else of the request's credential, else of the refresh cookie.

    Raises Unauthenticated, Forbidden; BadRequest for an API key, which has no session.
    """
    if body is not None and body.refresh_token is not None:
        return await run_in_threadpool(_holder, services, body.refresh_token.get_secret_value())
    try:
        caller = await authenticate(services, request.scope)
    except Unauthenticated:
        if "authorization" in request.headers or refresh_cookie(request, services) is None:
            raise
        token = await run_in_threadpool(browser_token, request, services)
        return await run_in_threadpool(_holder, services, token)
    if caller.credential is not None and caller.credential.kind is CredentialKind.API_KEY:
        raise BadRequest("an API key has no session to end; DELETE /api/auth/api-keys/{id} revokes it")
    return Holder(session_of(caller), caller.user_id, caller.tenant_id)


def _holder(services: Services, token: str) -> Holder:
    holder = holder_of_token(services, token)
    if holder is None:
        raise Unauthenticated("the refresh token is not known here")
    return holder
