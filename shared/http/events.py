"""`POST /events`: CloudEvents from outside (Knative triggers, other systems) into the bus, and notices of object stores."""

import binascii
import hmac
from base64 import b64decode
from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.security.utils import get_authorization_scheme_param
from psycopg2.errors import UniqueViolation
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool

from shared.errors import Invalid, NotFound, TooLarge, Unauthenticated, Unavailable
from shared.events.base import Envelope
from shared.events.codec import from_request
from shared.events.notices import ObjectNotice, parse
from shared.http.access import public
from shared.http.addresses import is_within
from shared.http.deps import address_of
from shared.http.problems import problem_responses
from shared.incoming import BUCKET, note_left, take_in
from shared.runtime.outbox import append
from shared.runtime.services import Services


class EventReceipt(BaseModel):
    """What became of a CloudEvent."""

    id: str
    status: str
    """`accepted`, or `known`: it came before."""


class NoticeReceipt(BaseModel):
    """What became of notices of an object store: numbers of objects."""

    accepted: int
    known: int
    ignored: int
    """Removals, and objects that are not there, not in our bucket, or not where studies go."""


def events_router() -> APIRouter:
    """The events route; closed unless HOUNSFIELD_EVENTS_TOKEN is set, or the caller is of HOUNSFIELD_EVENTS_NETWORKS."""
    router = APIRouter(tags=["events"])
    refusals = problem_responses(Unauthenticated, NotFound, TooLarge, Invalid, Unavailable)

    @router.post("/events", status_code=202, responses=refusals)
    @public("asks for the token of HOUNSFIELD_EVENTS_TOKEN, or takes notices from HOUNSFIELD_EVENTS_NETWORKS")
    async def receive(request: Request) -> EventReceipt | NoticeReceipt:
        """Take one CloudEvent 1.0, binary or structured, or notices of new objects as S3, Ceph, MinIO, EventBridge and
        SNS send them. The same again changes nothing."""
        services: Services = request.app.state.services
        may_notify = _may_notify(request, services)
        if not may_notify:
            _authorise(request, services)
        body = await request.body()
        notices = parse(request.headers, body)
        if notices is not None:
            return await run_in_threadpool(_take_notices, services, notices)
        if may_notify:
            _authorise(request, services)
        envelope = from_request(request.headers, body)
        new = await run_in_threadpool(_take_in, services, envelope)
        return EventReceipt(id=str(envelope.id), status="accepted" if new else "known")

    return router


def _take_notices(services: Services, notices: Sequence[ObjectNotice]) -> NoticeReceipt:
    """Look at the objects that the notices name; nothing else that they say counts. Raises Unavailable."""
    bucket = services.settings.bucket_prefix + BUCKET
    ours = [notice for notice in notices if notice.created and notice.bucket == bucket]
    note_left({"other": len(notices) - len(ours)}, "notice")
    tally = take_in(services, (notice.keys for notice in ours), "notice")
    return NoticeReceipt(
        accepted=tally["accepted"],
        known=tally["known"],
        ignored=len(notices) - len(ours) + tally["ignored"],
    )


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


def _may_notify(request: Request, services: Services) -> bool:
    """Whether the caller may send notices without the token. They give nothing away: the store is asked for all of it."""
    peer = address_of(request)
    return peer is not None and is_within(peer, services.settings.events_networks)


def _authorise(request: Request, services: Services) -> None:
    token = services.settings.events_token
    if token is None:
        raise NotFound(
            "this deployment takes no events over HTTP; set HOUNSFIELD_EVENTS_TOKEN to open the route"
        )
    given = _token(request.headers.get("authorization"))
    if not hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
        raise Unauthenticated(
            "POST /events needs the token of HOUNSFIELD_EVENTS_TOKEN, as a bearer token or as the password of HTTP Basic"
        )


def _token(authorization: str | None) -> str:
    """The bearer token, or the password: Ceph and SNS send what stands in `https://user:password@host`, and no more."""
    scheme, value = get_authorization_scheme_param(authorization)
    if scheme.lower() == "bearer":
        return value
    if scheme.lower() == "basic":
        try:
            return b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return ""
    return ""
