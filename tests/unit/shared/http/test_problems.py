"""Text that PostgreSQL cannot hold, wherever it gets in, is the sender's mistake; its value is not repeated."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.testclient import TestClient

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

    with TestClient(api, raise_server_exceptions=False) as client:
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
