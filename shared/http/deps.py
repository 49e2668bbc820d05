"""What routes ask for by type: the services, who is calling, and the caller's unit of work."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from shared.http.bearer import caller
from shared.runtime.services import Services
from shared.runtime.unit import UnitOfWork, unit_of_work
from shared.security.principal import Principal

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="Access token of POST /auth/login")


def get_services(request: Request) -> Services:
    """The services of this process."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]


def current_user(
    services: ServicesDep, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """Who is calling, from the bearer token; costs no database query. Raises Unauthenticated."""
    return caller(services, credentials.credentials if credentials else None)


CurrentUser = Annotated[Principal, Depends(current_user)]


def tenant_unit(services: ServicesDep, user: CurrentUser) -> Iterator[UnitOfWork]:
    """The caller's transaction; it commits before the response is sent."""
    with unit_of_work(services, user.tenant_id) as unit:
        yield unit


Unit = Annotated[UnitOfWork, Depends(tenant_unit, scope="function")]
