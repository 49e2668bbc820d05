import json
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import EVENTS, Envelope, Event, UnknownEvent, UploadCompleted
from shared.events.codec import MalformedEvent, from_request, from_structured, to_http, to_structured
from shared.events.types import Kind
from shared.ids import uuid7
from shared.text import all_storable

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def events() -> st.SearchStrategy[Event]:
    """Of every type, with text that PostgreSQL can hold."""
    every = st.sampled_from(sorted(EVENTS)).flatmap(lambda name: st.builds(EVENTS[name]))
    return every.filter(lambda event: all_storable(event.model_dump()))


def envelopes() -> st.SearchStrategy[Envelope]:
    return st.builds(
        Envelope,
        data=events(),
        tenant_id=st.uuids(),
        id=st.uuids(),
        traceparent=st.one_of(st.none(), st.just(TRACE)),
    )


@given(envelopes())
def test_every_event_survives_structured_json(envelope: Envelope) -> None:
    assert from_structured(json.loads(json.dumps(to_structured(envelope)))) == envelope


@given(envelopes())
def test_every_event_survives_binary_http(envelope: Envelope) -> None:
    headers, body = to_http(envelope)
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-type"].startswith("hounsfield.")
    assert from_request(headers, body) == envelope


@given(envelopes())
def test_every_event_survives_structured_http(envelope: Envelope) -> None:
    body = json.dumps(to_structured(envelope)).encode()
    assert from_request({"content-type": "application/cloudevents+json"}, body) == envelope


@given(envelopes())
def test_each_event_has_a_key_and_a_topic_of_its_type(envelope: Envelope) -> None:
    assert envelope.data.key
    assert envelope.data.topic in envelope.data.topics


def broken(**changes: Any) -> dict[str, Any]:
    event = UploadCompleted(upload_id=uuid7(), study_id=uuid7(), kind=get_args(Kind)[0])
    return {**to_structured(Envelope(event, UUID(int=1))), **changes}


@pytest.mark.parametrize(
    "value", [broken(data={}), broken(id="7"), broken(time="noon"), broken(tenantid=None), broken(data=[1])]
)
def test_an_event_that_does_not_fit_its_type_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(MalformedEvent):
        from_structured(value)


def test_an_unknown_type_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(UnknownEvent, match=r"hounsfield\.study\.ingested"):
        from_structured(broken(type="hounsfield.study.vanished"))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_a_request_that_is_no_cloudevent_is_refused(body: bytes) -> None:
    with pytest.raises((MalformedEvent, UnknownEvent)):
        from_request({"content-type": "application/cloudevents+json"}, body)


def test_fields_of_a_newer_sender_are_passed_over() -> None:
    value = broken()
    value["data"]["colour"] = "grey"
    assert from_structured(value).data.type == "upload.completed"
