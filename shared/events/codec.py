"""Envelopes to and from CloudEvents 1.0: structured JSON (database, HTTP) and binary HTTP."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from cloudevents.conversion import to_binary
from cloudevents.exceptions import GenericException
from cloudevents.http import CloudEvent, from_http
from pydantic import ValidationError

from shared.errors import Invalid
from shared.events.base import Envelope
from shared.events.registry import PREFIX, event_class


class MalformedEvent(Invalid):
    """Not a CloudEvent, or its data does not fit its type."""

    slug, title = "malformed-event", "Malformed event"


def to_structured(envelope: Envelope) -> dict[str, Any]:
    """The structured-mode JSON object; what the outbox stores."""
    return {**_attributes(envelope), "data": envelope.data.model_dump(mode="json")}


def from_structured(value: Mapping[str, Any]) -> Envelope:
    """An envelope from a structured-mode object. Raises MalformedEvent, UnknownEvent."""
    cls = event_class(str(value.get("type")))
    try:
        return Envelope(
            data=cls.model_validate(value["data"]),
            tenant_id=UUID(value["tenantid"]),
            id=UUID(value["id"]),
            source=value["source"],
            time=datetime.fromisoformat(value["time"]),
            traceparent=value.get("traceparent"),
        )
    except KeyError as error:
        raise MalformedEvent(f"the event has no attribute {error}") from error
    except (ValidationError, ValueError, TypeError) as error:
        raise MalformedEvent(f"the event does not fit its type: {error}") from error


def to_http(envelope: Envelope) -> tuple[dict[str, str], bytes]:
    """Headers and body in binary mode, as Knative and the Kafka binding write them."""
    headers, body = to_binary(CloudEvent(_attributes(envelope), envelope.data.model_dump(mode="json")))
    return headers, body or b""


def from_request(headers: Mapping[str, str], body: bytes) -> Envelope:
    """An envelope from an HTTP request in binary or structured mode. Raises MalformedEvent, UnknownEvent."""
    try:
        event = from_http(dict(headers), body)
    except (GenericException, ValueError) as error:
        raise MalformedEvent(f"not a CloudEvent: {error}") from error
    return from_structured({**event.get_attributes(), "data": event.get_data()})


def _attributes(envelope: Envelope) -> dict[str, str]:
    attributes = {
        "specversion": "1.0",
        "id": str(envelope.id),
        "type": PREFIX + envelope.data.type,
        "source": envelope.source,
        "subject": envelope.data.key,
        "time": envelope.time.isoformat(),
        "datacontenttype": "application/json",
        "tenantid": str(envelope.tenant_id),
    }
    if envelope.traceparent:
        attributes["traceparent"] = envelope.traceparent
    return attributes
