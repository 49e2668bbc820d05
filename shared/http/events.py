"""`POST /events`: CloudEvents from outside (Knative triggers, other systems) into the bus."""

import hmac

from fastapi import APIRouter, Request
from psycopg2.errors import UniqueViolation
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool

from shared.errors import Invalid, NotFound, Unauthenticated
from shared.events.base import Envelope
from shared.events.codec import from_request
from shared.http.access import public
from shared.http.authentication import bearer_token
from shared.http.problems import problem_responses
from shared.runtime.outbox import append
from shared.runtime.services import Services


def events_router() -> APIRouter:
    """The events route; it is closed unless HOUNSFIELD_EVENTS_TOKEN is set."""
    router = APIRouter(tags=["events"])

    @router.post("/events", status_code=202, responses=problem_responses(Unauthenticated, NotFound, Invalid))
    @public("asks for the token of HOUNSFIELD_EVENTS_TOKEN; closed without one")
    async def receive(request: Request) -> dict[str, str]:
        """Take one CloudEvent 1.0, binary or structured. The same id again changes nothing."""
        services: Services = request.app.state.services
        _authorise(request, services)
        envelope = from_request(request.headers, await request.body())
        new = await run_in_threadpool(_take_in, services, envelope)
        return {"id": str(envelope.id), "status": "accepted" if new else "known"}

    return router


def _take_in(services: Services, envelope: Envelope) -> bool:
    """Put the event into the outbox; False when its id is there already. Raises Invalid for an unknown tenant."""
    try:
        with services.database.tenant(envelope.tenant_id) as session:
            append(session, envelope)
    except IntegrityError as error:
        if isinstance(error.orig, UniqueViolation):
            return False
        raise Invalid("the event's tenantid names no tenant of this deployment") from error
    return True


def _authorise(request: Request, services: Services) -> None:
    token = services.settings.events_token
    if token is None:
        raise NotFound(
            "this deployment takes no events over HTTP; set HOUNSFIELD_EVENTS_TOKEN to open the route"
        )
    given = bearer_token(request.headers.get("authorization")) or ""
    if not hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
        raise Unauthenticated("POST /events needs the bearer token of HOUNSFIELD_EVENTS_TOKEN")
