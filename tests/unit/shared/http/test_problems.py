"""What each kind of error is answered; values that were sent are not repeated."""

from collections.abc import Iterator
from typing import Annotated

import pytest
from fastapi import FastAPI, Form
from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from shared.db.session import Database
from shared.http.problems import install_problem_handlers


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    api = FastAPI()
    install_problem_handlers(api)

    @api.get("/text")
    def store_text(code: int) -> None:
        with database.system() as session:
            session.execute(text("select :value"), {"value": f"JOHN{chr(code)}DOE"})

    @api.get("/json")
    def store_json() -> None:
        with database.system() as session:
            session.execute(text("select cast(:value as jsonb)"), {"value": '{"a": "JOHN DOE \\u0000"}'})

    @api.get("/ours")
    def ours() -> None:
        raise ValueError("JOHN DOE")

    @api.get("/away")
    def away() -> None:
        create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/nowhere").connect()

    @api.get("/busy")
    def busy() -> None:
        pool = QueuePool(lambda: database.engine.raw_connection(), pool_size=1, max_overflow=0, timeout=0.1)
        with pool.connect() as connection:
            assert connection
            pool.connect()

    @api.post("/json")
    def take_json(fields: dict[str, str]) -> None:
        pass

    @api.post("/form")
    def take_form(field: Annotated[str, Form()]) -> None:
        pass

    with TestClient(api) as client:
        yield client


@pytest.mark.parametrize("path", ["/text?code=0", f"/text?code={0xD800}", "/json"])
def test_a_value_that_cannot_be_stored_is_a_422(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "JOHN" not in answer.text


def test_any_other_value_error_is_our_own_mistake(client: TestClient) -> None:
    answer = client.get("/ours")
    assert (answer.status_code, "JOHN" in answer.text) == (500, False)
    assert client.get("/text?code=65").status_code == 200


@pytest.mark.parametrize(("path", "cause"), [("/away", "OperationalError"), ("/busy", "TimeoutError")])
def test_without_the_database_callers_come_back_later(client: TestClient, path: str, cause: str) -> None:
    with capture_logs() as logs:
        answer = client.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["type"].endswith("/unavailable")
    assert [(line["log_level"], line["error"]) for line in logs] == [("warning", cause)]
    assert "exc_info" not in logs[0]


JSON, WEB_FORM = "application/json", "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("path", "label", "body", "status", "said"),
    [
        ("/json", WEB_FORM, b'{"a": "JOHN"}', 422, "send the body as Content-Type: application/json"),
        ("/json", "text/plain", b"{}", 422, "send the body as Content-Type: application/json"),
        ("/json", "", b"{}", 422, "send the body as Content-Type: application/json"),
        ("/json", JSON, b'{"JOHN" 1}', 422, "body: no valid JSON at character 8: Expecting ':' delimiter"),
        ("/json", JSON, b'"JOHN"', 422, "body: Input should be a valid dictionary"),
        ("/json", JSON, b"\xff", 400, "the body is not UTF-8"),
        ("/json", JSON, b"[" * 100_000, 400, "the body is nested too deeply"),
        ("/form", JSON, b'{"field": "JOHN"}', 422, "send the body as Content-Type: multipart/form-data"),
        ("/form", "multipart/form-data", b"JOHN", 400, "the body cannot be read: Missing boundary"),
    ],
)
def test_a_body_that_cannot_be_used_is_told_why(
    client: TestClient, path: str, label: str, body: bytes, status: int, said: str
) -> None:
    answer = client.post(path, content=body, headers={"content-type": label} if label else {})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]
    assert "JOHN" not in answer.text


def test_a_right_label_is_not_asked_for_again(client: TestClient) -> None:
    for path, label, body in (("/json", JSON, b"[]"), ("/form", WEB_FORM, b"other=1")):
        answer = client.post(path, content=body, headers={"content-type": label})
        assert answer.status_code == 422
        assert "Content-Type" not in answer.text
