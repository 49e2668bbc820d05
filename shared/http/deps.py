"""What routes ask for by type: the services, who is calling, and the caller's unit of work."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPBearer

from shared.errors import Unauthenticated
from shared.http.authentication import API_KEY_HEADER, authenticate, is_signed
from shared.http.cookies import cookie_names
from shared.runtime.services import Services
from shared.runtime.unit import UnitOfWork, unit_of_work
from shared.security.audit import Actor
from shared.security.principal import Principal

# These three only describe: `authenticate` reads the request itself.
_bearer = HTTPBearer(
    auto_error=False, bearerFormat="JWT", description="Access token of POST /auth/login, or an API key"
)
_api_key = APIKeyHeader(
    name="X-API-Key", scheme_name="APIKey", auto_error=False, description="API key (hsk_…)"
)
_cookie = APIKeyCookie(
    name="hounsfield_access",
    scheme_name="Session",
    auto_error=False,
    description="Cookie of POST /auth/login (`__Host-hounsfield_access` under TLS); what changes something must "
    "also send the csrf cookie's value as X-CSRF-Token",
)
assert API_KEY_HEADER == "x-api-key"


def get_services(request: Request) -> Services:
    """The services of this process."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]


async def _describe(
    bearer: Annotated[object, Depends(_bearer)],
    api_key: Annotated[object, Depends(_api_key)],
    cookie: Annotated[object, Depends(_cookie)],
) -> None:
    """Names the ways to show who is calling, in the OpenAPI document."""


Described = Annotated[None, Depends(_describe)]


async def current_user(request: Request, services: ServicesDep, _: Described) -> Principal:
    """Who is calling. Raises Unauthenticated, Forbidden for a cookie without its CSRF token."""
    return await authenticate(services, request.scope)


CurrentUser = Annotated[Principal, Depends(current_user)]


async def maybe_user(request: Request, services: ServicesDep, _: Described) -> Principal | None:
    """Who is calling, if anybody says. Raises Unauthenticated for a bad header; Forbidden as `current_user` does.

    A session's cookie that is good no more is none: browsers send it until it ends. Not so beside a refresh cookie: then
    somebody who thinks they are logged in would act as nobody.
    """
    try:
        return await authenticate(services, request.scope)
    except Unauthenticated:
        if is_signed(request.headers):
            raise
        if cookie_names(request.scope, services.settings).refresh in request.cookies:
            raise Unauthenticated("the session has ended: refresh it, log in again, or log out") from None
        return None


MaybeUser = Annotated[Principal | None, Depends(maybe_user)]


def address_of(request: Request) -> str | None:
    """Where the request came from: the peer, or what a trusted proxy says."""
    return request.client.host if request.client else None


def tenant_unit(request: Request, services: ServicesDep, user: CurrentUser) -> Iterator[UnitOfWork]:
    """The caller's transaction; it commits before the response is sent."""
    actor = Actor.of(user, address_of(request))
    with unit_of_work(services, user.tenant_id, actor) as unit:
        yield unit


Unit = Annotated[UnitOfWork, Depends(tenant_unit, scope="function")]
