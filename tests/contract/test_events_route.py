"""POST /events: CloudEvents from outside."""

import json
from base64 import b64encode
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


def basic(credentials: str) -> dict[str, str]:
    return {"authorization": f"Basic {b64encode(credentials.encode()).decode()}"}


def test_the_token_may_be_the_password_of_http_basic(client: TestClient, envelope: Envelope) -> None:
    headers, body = to_http(envelope)
    for user in ("ceph", "", "anybody"):
        credentials = basic(f"{user}:a-shared-secret")
        assert client.post("/events", headers={**headers, **credentials}, content=body).status_code == 202
    for wrong in (
        "a-shared-secret:",
        "a-shared-secret",
        "ceph:a-shared-secret2",
        ":",
        "ceph:a-shared-secret:",
    ):
        assert client.post("/events", headers={**headers, **basic(wrong)}, content=body).status_code == 401
    for broken in ("Basic", "Basic =", "Basic \xff", "Basic YTpi!", "Basic /w==", "Basic a"):
        refused = client.post(
            "/events", headers={**headers, "authorization": broken.encode("latin-1")}, content=body
        )
        assert refused.status_code == 401


def test_the_token_does_not_count_in_the_address(client: TestClient, envelope: Envelope) -> None:
    headers, body = to_http(envelope)
    address = "/events?token=a-shared-secret&access_token=a-shared-secret"
    assert client.post(address, headers=headers, content=body).status_code == 401


def notice(**changes: Any) -> dict[str, Any]:
    return {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "hounsfield-incoming"}, "object": {"key": "default/ct/JOHN+DOE/1.dcm"}},
        **changes,
    }


def test_notices_of_nothing_that_is_there_are_taken_and_ignored(
    client: TestClient, services: Services
) -> None:
    elsewhere = {"bucket": {"name": "elsewhere"}, "object": {"key": "default/ct/1.dcm"}}
    strange = [
        notice(s3={**notice()["s3"], "object": {"key": key}})
        for key in (
            "default/ct/../../x",
            "x" * 2000,
            "default/ct/a%00b",
            "default/ct/a\x00b",
            "%ff/ct/a",
            "uploads/a/b/1",
        )
    ]
    records = [notice(), notice(eventName="ObjectRemoved:Delete"), notice(s3=elsewhere), *strange]
    answer = client.post("/events", headers=TOKEN, json={"Records": records})
    assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "known": 0, "ignored": len(records)})
    tested = client.post(
        "/events", headers=TOKEN, json={"Event": "s3:TestEvent", "Bucket": "hounsfield-incoming"}
    )
    assert (tested.status_code, tested.json()) == (202, {"accepted": 0, "known": 0, "ignored": 0})
    assert taken_in(services) == 0


def test_a_malformed_notice_is_named_without_its_key(client: TestClient) -> None:
    answer = client.post("/events", headers=TOKEN, json={"Records": [notice(), notice(eventName=None)]})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "record 2: eventName is missing, or no text"
    assert "JOHN" not in answer.text


def test_too_many_notices_in_one_body_are_refused(client: TestClient) -> None:
    small = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}
    answer = client.post("/events", headers=TOKEN, json={"Records": [small] * 1001})
    assert answer.status_code == 413
    assert "at most 1000 notices" in answer.json()["detail"]
    large = client.post("/events", headers=TOKEN, json={"Records": [notice(padding="x" * 1000)] * 1100})
    assert large.status_code == 413


def test_notices_need_the_token(client: TestClient) -> None:
    assert client.post("/events", json={"Records": [notice()]}).status_code == 401


def test_no_key_gets_into_the_log(
    client: TestClient, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    client.post("/events", headers=TOKEN, json={"Records": [notice(), notice(eventName=5)]})
    client.post("/events", headers=TOKEN, json={"Records": [notice()]})
    written = "".join(capfd.readouterr()) + caplog.text
    assert "left alone" in written
    assert "JOHN" not in written


RECORDS = {
    "Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}]
}


@pytest.fixture
def neighbour(services: Services, client_for: Any) -> TestClient:
    """A client in a network that may send notices, of an installation without a token."""
    services.settings.events_networks = ["10.1.0.0/16"]
    client = client_for()
    return TestClient(client.app, client=("10.1.2.3", 4000))


def test_a_store_of_a_named_network_sends_notices_without_a_token(neighbour: TestClient) -> None:
    answer = neighbour.post("/api/events", json=RECORDS)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "known": 0, "ignored": 1})


def test_it_may_send_nothing_but_notices(
    neighbour: TestClient, services: Services, envelope: Envelope
) -> None:
    headers, body = to_http(envelope)
    assert neighbour.post("/api/events", headers=headers, content=body).status_code == 404
    assert taken_in(services) == 0


def test_others_send_none(neighbour: TestClient) -> None:
    stranger = TestClient(neighbour.app, client=("10.2.0.1", 4000))
    assert stranger.post("/api/events", json=RECORDS).status_code == 404
