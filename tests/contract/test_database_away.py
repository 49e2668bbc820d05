"""What callers are told while the database is away: to come back, and nothing is lost."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from functions import auth, studies, upload
from shared.db.session import Database
from shared.http.app import create_api, harden
from shared.runtime.services import Services
from tests.contract.conftest import PASSWORD

NOWHERE = "postgresql+psycopg2://nobody@127.0.0.1:1/nowhere"
KEY = {"X-API-Key": "hsk_" + "a" * 43}


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    database = Database(NOWHERE)
    away = Services(services.settings, database, services.storage)
    app = harden(create_api([auth.function, studies.function, upload.function], away, {}), away)
    with TestClient(app) as client:
        yield client
    database.close()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/auth/login", {"login": "anna", "password": PASSWORD}),
        ("POST", "/api/auth/refresh", {"refresh_token": "hsr_" + "a" * 43}),
        ("POST", "/api/auth/register", {"email": "anna@hospital.example", "password": PASSWORD}),
        ("POST", "/api/auth/reset-password", {"email": "anna@hospital.example"}),
        ("GET", "/api/auth/me", None),
        ("GET", "/api/studies", None),
        ("POST", "/api/process-mri", None),
    ],
)
def test_without_the_database_each_route_says_when_to_come_back(
    client: TestClient, method: str, path: str, body: dict[str, str] | None
) -> None:
    answer = client.request(method, path, json=body, headers=KEY if body is None else {})
    assert (answer.status_code, answer.headers.get("retry-after")) == (503, "5"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith("/unavailable")
