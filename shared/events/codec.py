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
from shared.events.base import Envelope, Event
from shared.events.registry import PREFIX, event_class
from shared.text import all_storable, is_storable


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
            data=_storable_data(cls.model_validate(value["data"])),
            tenant_id=UUID(_text(value, "tenantid")),
            id=UUID(_text(value, "id")),
            source=_text(value, "source"),
            time=datetime.fromisoformat(_text(value, "time")),
            traceparent=None if value.get("traceparent") is None else _text(value, "traceparent"),
        )
    except KeyError as error:
        raise MalformedEvent(f"the event has no attribute {error}") from error
    except ValidationError as error:
        raise MalformedEvent(f"the event does not fit its type: {_mistakes(error)}") from None
    except (ValueError, RecursionError) as error:
        raise MalformedEvent(f"the event does not fit its type: {error}") from error


def to_http(envelope: Envelope) -> tuple[dict[str, str], bytes]:
    """Headers and body in binary mode, as Knative and the Kafka binding write them."""
    headers, body = to_binary(CloudEvent(_attributes(envelope), envelope.data.model_dump(mode="json")))
    return headers, body or b""


def from_request(headers: Mapping[str, str], body: bytes) -> Envelope:
    """An envelope from an HTTP request in binary or structured mode. Raises MalformedEvent, UnknownEvent."""
    try:
        event = from_http(dict(headers), body)
    except (GenericException, ValueError, TypeError, AttributeError, RecursionError):
        # The library's own words quote the whole body.
        raise MalformedEvent("not a CloudEvent 1.0 in binary or structured mode") from None
    return from_structured({**event.get_attributes(), "data": event.get_data()})


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value[name]
    if not isinstance(text, str) or not is_storable(text):
        raise MalformedEvent(f"the event's attribute {name!r} is not text that can be stored")
    return text


def _storable_data(data: Event) -> Event:
    if not all_storable(data.model_dump()):
        raise MalformedEvent("the event's data holds text that cannot be stored: NUL or a lone surrogate")
    return data


def _mistakes(error: ValidationError) -> str:
    """Where and what, without the values."""
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'data'}: {item['msg']}" for item in error.errors())


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
