"""Every route says what it allows: `may(action)` among its dependencies, or `@public(reason)`. One that says neither
keeps the application from starting."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from shared.http.refusals import WatchedUser
from shared.security.policy import Action
from shared.security.principal import Principal

Route = TypeVar("Route", bound=Callable[..., Any])
EXTENSION = "x-hounsfield-access"
"""OpenAPI: the action of the policy table that a route needs, or `public: <reason>`."""


def may(action: Action) -> Callable[[Principal], Awaitable[Principal]]:
    """A dependency: the caller, who may do `action` to something at least; what is refused to them is recorded.

    Raises Unauthenticated, Forbidden.
    """

    async def allowed(user: WatchedUser) -> Principal:
        user.require(action)
        return user

    vars(allowed)["action"] = action
    return allowed


def public(reason: str) -> Callable[[Route], Route]:
    """Marks a route that asks for no account; `reason` says what protects it, or why nothing needs to."""

    def mark(route: Route) -> Route:
        vars(route)["public"] = reason
        return route

    return mark


StudiesReader = Annotated[Principal, Depends(may(Action.STUDIES_READ))]
StudiesWriter = Annotated[Principal, Depends(may(Action.STUDIES_WRITE))]
ReportsReader = Annotated[Principal, Depends(may(Action.REPORTS_READ))]
AccountReader = Annotated[Principal, Depends(may(Action.ACCOUNT_READ))]
AccountWriter = Annotated[Principal, Depends(may(Action.ACCOUNT_WRITE))]
KeyManager = Annotated[Principal, Depends(may(Action.API_KEYS))]
UserManager = Annotated[Principal, Depends(may(Action.USERS))]
Auditor = Annotated[Principal, Depends(may(Action.AUDIT_READ))]


def access_of(route: RouteContext) -> str:
    """What the route asks for: an action, or `public: <reason>`. Raises ValueError for one that says nothing."""
    reason: str | None = getattr(route.endpoint, "public", None)
    if reason is not None:
        return f"public: {reason}"
    actions = {action for call in _calls(route.dependant) if (action := getattr(call, "action", None))}
    if len(actions) != 1:
        raise ValueError(
            f"{sorted(route.methods or ())} {route.path} must say what it allows: may(…) or @public(…)"
        )
    return str(actions.pop())


def describe_access(api: FastAPI) -> None:
    """Write each route's access into the OpenAPI document. Raises ValueError for a route that says none."""
    routes = iter_route_contexts(api.routes)  # `api.routes` itself holds routers, not their routes
    accesses = {
        (route.path_format, method.lower()): access_of(route)
        for route in routes
        if isinstance(route.original_route, APIRoute)
        for method in route.methods or ()
    }
    generate = api.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                operation[EXTENSION] = accesses[path, method]
        return document

    vars(api)["openapi"] = openapi


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    for needed in dependant.dependencies:
        yield needed.call
        yield from _calls(needed)
