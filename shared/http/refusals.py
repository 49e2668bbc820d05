"""What callers were refused, in the audit log: whoever tries the ids of others shall be seen."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from shared.errors import Forbidden, NotFound
from shared.http.deps import CurrentUser, ServicesDep, address_of
from shared.runtime.services import Services
from shared.runtime.unit import unit_of_work
from shared.security.audit import Actor, Detail
from shared.security.principal import Principal

SUBJECTS = {
    "studies": "study",
    "scans": "study",
    "slides": "study",
    "cases": "case",
    "uploads": "upload",
    "reports": "report",
    "users": "user",
    "auth": "api_key",
}
"""First segment of a route → what its `id` is the id of."""


@asynccontextmanager
async def noted_refusals(services: Services, caller: Principal, request: Request) -> AsyncIterator[None]:
    """Record what the block refuses to the caller, in a transaction of its own.

    An id that is nobody's is recorded like one that the caller may not see, so that both take as long. Subclasses of
    the two errors tell of something else: a wrong password, say, which has a record of its own.
    """
    try:
        yield
    except (Forbidden, NotFound) as error:
        if type(error) in (Forbidden, NotFound):
            await run_in_threadpool(_note, services, caller, request, error.status)
        raise


async def watched_user(
    request: Request, services: ServicesDep, caller: CurrentUser
) -> AsyncIterator[Principal]:
    """The caller. What is refused to them is recorded; this ends after the route's own transaction, which is rolled
    back by then and holds no connection."""
    async with noted_refusals(services, caller, request):
        yield caller


WatchedUser = Annotated[Principal, Depends(watched_user)]


def _note(services: Services, caller: Principal, request: Request, status: int) -> None:
    scope = request.scope
    routed = scope.get("route")  # none yet where an upload is refused; its path has no parameters
    route = routed.path_format if routed else scope["path"]
    details: dict[str, Detail] = {"method": request.method, "route": route, "status": status}
    with unit_of_work(services, caller.tenant_id, Actor.of(caller, address_of(request))) as unit:
        unit.audit("access.refused", subject=_subject(request, route), details=details, outcome="failure")


def _subject(request: Request, route: str) -> tuple[str, UUID] | None:
    """What was asked for, where it has an id."""
    kind = SUBJECTS.get(route.split("/")[1])
    asked = request.path_params.get("id") or request.query_params.get("id")
    try:
        return (kind, UUID(str(asked))) if kind and asked else None
    except ValueError:
        return None
