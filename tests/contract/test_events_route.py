"""POST /events: CloudEvents from outside."""

import json
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select
from starlette.testclient import TestClient

from shared.db.models import OutboxEntry
from shared.events import Envelope, StudyIngested, StudyRejected
from shared.events.codec import to_http, to_structured
from shared.ids import uuid7
from shared.runtime import Services

TOKEN = {"authorization": "Bearer a-shared-secret"}


@pytest.fixture
def client(services: Services, client_for: Any) -> TestClient:
    services.settings.events_token = SecretStr("a-shared-secret")
    return client_for()


@pytest.fixture
def envelope(tenant_id: UUID) -> Envelope:
    return Envelope(StudyIngested(study_id=uuid7(), kind="oct"), tenant_id)


def taken_in(services: Services) -> int:
    with services.database.system() as session:
        return session.scalar(select(func.count(OutboxEntry.id))) or 0


def test_an_event_is_taken_in_binary_or_structured_form(
    client: TestClient, services: Services, tenant_id: UUID, envelope: Envelope
) -> None:
    headers, body = to_http(envelope)
    assert client.post("/api/events", headers={**headers, **TOKEN}, content=body).status_code == 202
    other = Envelope(StudyIngested(study_id=uuid7(), kind="ct"), tenant_id)
    structured = {"content-type": "application/cloudevents+json", **TOKEN}
    answer = client.post("/events", headers=structured, content=json.dumps(to_structured(other)))
    assert answer.json() == {"id": str(other.id), "status": "accepted"}
    assert taken_in(services) == 2


def test_the_same_event_again_changes_nothing(
    client: TestClient, services: Services, envelope: Envelope
) -> None:
    headers, body = to_http(envelope)
    for status in ("accepted", "known", "known"):
        assert client.post("/events", headers={**headers, **TOKEN}, content=body).json()["status"] == status
    assert taken_in(services) == 1


def test_what_is_no_event_of_ours_is_refused(
    client: TestClient, services: Services, envelope: Envelope
) -> None:
    headers, body = to_http(envelope)
    for change, content in (({"ce-type": "other"}, body), ({}, b"{}"), ({"ce-tenantid": str(uuid7())}, body)):
        answer = client.post("/events", headers={**headers, **change, **TOKEN}, content=content)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
    assert taken_in(services) == 0


def test_the_route_is_closed_without_the_token_and_not_there_without_the_setting(
    client: TestClient, services: Services, envelope: Envelope
) -> None:
    headers, body = to_http(envelope)
    for token in ("", "Bearer wrong", "Bearer "):
        answer = client.post("/events", headers={**headers, "authorization": token}, content=body)
        assert answer.status_code == 401
    services.settings.events_token = None
    assert client.post("/events", headers={**headers, **TOKEN}, content=body).status_code == 404
    assert taken_in(services) == 0


NUL, SURROGATE = "a\0b", "a\ud800b"


@pytest.mark.parametrize(
    "change",
    [
        {"id": [1]},
        {"id": "abc"},
        {"tenantid": 5},
        {"tenantid": None},
        {"time": 5},
        {"source": 5},
        {"source": NUL},
        {"source": SURROGATE},
        {"traceparent": 5},
        {"traceparent": NUL},
        {"type": [1]},
        {"type": SURROGATE},
        {"specversion": [1]},
        {"data": "x"},
        {"data": None},
        {"data": {"study_id": str(uuid7()), "kind": "ct", "reason": NUL}},
        {"data": {"study_id": str(uuid7()), "kind": "ct", "reason": SURROGATE}},
        {"data": {"study_id": "JOHN DOE", "kind": "ct", "reason": "r"}},
    ],
)
def test_an_event_with_a_wrong_attribute_is_a_problem_that_does_not_repeat_it(
    client: TestClient, services: Services, tenant_id: UUID, change: dict[str, Any]
) -> None:
    rejected = Envelope(StudyRejected(study_id=uuid7(), kind="ct", reason="r"), tenant_id)
    body = json.dumps({**to_structured(rejected), **change})
    structured = {"content-type": "application/cloudevents+json", **TOKEN}
    answer = client.post("/events", headers=structured, content=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "JOHN DOE" not in answer.text
    assert taken_in(services) == 0


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"5", b"\xff", b"[" * 100_000, b'{"specversion":' * 50_000, b"JOHN DOE"]
)
def test_what_is_no_json_object_is_refused_unrepeated(client: TestClient, body: bytes) -> None:
    structured = {"content-type": "application/cloudevents+json", **TOKEN}
    answer = client.post("/events", headers=structured, content=body)
    assert answer.status_code == 422
    assert "JOHN DOE" not in answer.text


def test_the_token_needs_its_scheme(client: TestClient, envelope: Envelope) -> None:
    headers, body = to_http(envelope)
    for scheme in ("", "Basic ", "Token "):
        bare = {**headers, "authorization": f"{scheme}a-shared-secret"}
        assert client.post("/events", headers=bare, content=body).status_code == 401
