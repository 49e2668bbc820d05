"""HTTP of sessions."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request, Response

from functions.auth.accounts.schemas import Account
from functions.auth.sessions import service
from functions.auth.sessions.browser import clear_session_cookies, require_own_origin, set_session_cookies
from functions.auth.sessions.caller import browser_token, leaving_session
from functions.auth.sessions.forms import CredentialsDep, body_schema
from functions.auth.sessions.schemas import KeySet, LoggedIn, Logout, Refresh
from shared.errors import BadRequest, Forbidden, Invalid, TooLarge, TooManyRequests, Unauthenticated
from shared.http.access import public
from shared.http.cookies import csrf_tokens
from shared.http.deps import ServicesDep, address_of
from shared.http.problems import problem_responses
from shared.runtime.services import Services
from shared.security.audit import Actor
from shared.security.keys import key_store

router = APIRouter(tags=["auth"])


def logged_in(services: Services, session: service.Session) -> LoggedIn:
    """A new session as every kind of log-in answers it."""
    return LoggedIn(
        access_token=session.access_token,
        access=session.access_token,
        refresh_token=session.refresh_token,
        refresh=session.refresh_token,
        expires_in=session.access_seconds,
        refresh_expires_in=session.refresh_seconds,
        csrf_token=services.once(csrf_tokens).token(session.id),
        user=Account.model_validate(session.user),
    )


@router.post(
    "/auth/login",
    summary="Log in",
    responses=problem_responses(BadRequest, Unauthenticated, Forbidden, TooLarge, Invalid, TooManyRequests),
    openapi_extra=body_schema(),
)
@public("this is the way in; locked after failures")
def login(
    request: Request, response: Response, services: ServicesDep, credentials: CredentialsDep
) -> LoggedIn:
    """Tokens, and cookies for a browser, for an e-mail address or username with its password, as JSON or an OAuth 2
    form."""
    require_own_origin(request, services)
    address = address_of(request)
    password = credentials.password.get_secret_value()
    user = service.authenticate(services, credentials.name, password, address)
    session = service.start_session(services, user, Actor(user.id, "password", address))
    set_session_cookies(response, request, services, session)
    return logged_in(services, session)


@router.post(
    "/auth/refresh",
    summary="New tokens for a refresh token",
    responses=problem_responses(BadRequest, Unauthenticated, Forbidden, Invalid),
)
@public("asks for a refresh token")
def refresh(
    request: Request,
    response: Response,
    services: ServicesDep,
    body: Annotated[Refresh | None, Body()] = None,
) -> LoggedIn:
    """Each refresh token is good for one use. Using it again ends the session: one of its two users was a thief."""
    require_own_origin(request, services)
    address = address_of(request)
    if body is not None and body.refresh_token is not None:
        token = body.refresh_token.get_secret_value()
        return logged_in(services, service.refresh_session(services, token, address))
    cookie = browser_token(request, services)
    session = service.refresh_session(services, cookie, address)
    set_session_cookies(response, request, services, session)
    return logged_in(services, session)


@router.post(
    "/auth/logout",
    status_code=204,
    summary="Log out",
    responses=problem_responses(BadRequest, Unauthenticated, Forbidden, Invalid),
)
@public("asks for a token of the session that ends")
def logout(
    request: Request,
    response: Response,
    services: ServicesDep,
    leaving: Annotated[service.Holder, Depends(leaving_session)],
    body: Annotated[Logout | None, Body()] = None,
) -> None:
    """End a session: its refresh token is void at once, its access tokens are in every process within seconds.

    A session that has ended stays ended; to end all of an account's takes a token that is good.
    """
    actor = Actor(leaving.user_id, f"session:{leaving.session_id}", address_of(request))
    if body is not None and body.everywhere:
        service.end_account_sessions(services, leaving, actor)
    else:
        service.end_session(services, leaving, actor)
    clear_session_cookies(response, request, services)


@router.get("/auth/jwks.json", summary="Public keys that access tokens are checked with")
@public("public keys")
def jwks(services: ServicesDep, response: Response) -> KeySet:
    """A JSON Web Key Set."""
    response.headers["Cache-Control"] = "public, max-age=300"
    return KeySet.model_validate(services.once(key_store).jwks())
