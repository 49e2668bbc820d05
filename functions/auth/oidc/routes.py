"""HTTP of log-ins elsewhere."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse

from functions.auth.oidc import attempt as attempts
from functions.auth.oidc import service
from functions.auth.oidc.attempt import LOGIN, Attempt
from functions.auth.oidc.provider import is_configured, provider
from functions.auth.oidc.schemas import Answer, Next, Way
from functions.auth.sessions.browser import set_session_cookies
from shared.errors import BadRequest, Conflict, Forbidden, Invalid, NotFound, TooManyRequests, Unavailable
from shared.http.access import public
from shared.http.deps import ServicesDep, address_of
from shared.http.problems import problem_responses
from shared.runtime.services import Services

router = APIRouter(tags=["auth"])


def redirect_uri(request: Request, services: Services) -> str:
    """Where the provider sends the browser back to; it must be registered there."""
    base = services.settings.public_url or str(request.base_url)
    return f"{base.rstrip('/')}/api/auth/oidc/callback"


@router.get("/auth/oidc", summary="Whether one may log in through an identity provider")
@public("for a log-in page")
def way_in(services: ServicesDep) -> Way:
    """Send the browser to `login` where it is enabled."""
    if not is_configured(services.settings):
        return Way(enabled=False)
    return Way(enabled=True, issuer=services.settings.oidc_issuer, login=LOGIN)


@router.get(
    "/auth/oidc/login",
    status_code=302,
    response_class=RedirectResponse,
    summary="Log in through the identity provider",
    responses=problem_responses(NotFound, Invalid, Unavailable),
)
@public("only sends the browser to the identity provider")
def login(request: Request, services: ServicesDep, next: Next = "/api/auth/me") -> RedirectResponse:
    """For browsers: leads to the provider, back to the callback, and to `next` with the cookies of a session."""
    begun = Attempt.begin(next)
    url = services.once(provider).authorization_url(begun, redirect_uri(request, services))
    response = RedirectResponse(url, 302)
    attempts.remember(response, request, services, begun)
    return response


@router.get(
    "/auth/oidc/callback",
    status_code=303,
    response_class=RedirectResponse,
    summary="Where the identity provider sends the browser back to",
    responses=problem_responses(
        BadRequest, Forbidden, NotFound, Conflict, Invalid, TooManyRequests, Unavailable
    ),
)
@public("asks for a code of the identity provider and the cookie of the browser that began")
def callback(request: Request, services: ServicesDep, answer: Annotated[Answer, Query()]) -> RedirectResponse:
    """Starts a session for the person whom the provider names."""
    services.once(provider)  # off: says so, whatever the cookie
    begun = attempts.recall(request, services)
    here = redirect_uri(request, services)
    session = service.finish(services, begun, answer, here, address_of(request))
    response = RedirectResponse(begun.next, 303)
    attempts.forget(response, request, services)
    set_session_cookies(response, request, services, session)
    return response
