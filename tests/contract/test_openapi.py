"""The OpenAPI document tells what is really answered."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from functions.host import load_functions
from tests.contract.conftest import ClientFor

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
DICOM = {("post /dicom-web/studies", "409"), ("post /dicom-web/studies/{study}", "409")}
"""What DICOM lays down: an answer that says of each image why it was not stored (PS3.18 §10.5.3)."""


@pytest.fixture
def client(client_for: ClientFor) -> TestClient:
    return client_for(*load_functions())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_every_error_is_described_as_a_problem(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert "HTTPValidationError" not in str(document)
    assert schemas["Problem"]["required"] == ["type", "title", "status", "detail"]
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            if (name, status) in DICOM:
                assert answer["content"].keys() == {"application/dicom+json"}
            elif status.startswith("4") or (status == "503" and name != "get /health"):
                assert answer["content"] == PROBLEM, (name, status)
        assert "503" in operation["responses"], name
        if "requestBody" in operation:
            assert {"400", "422"} <= operation["responses"].keys(), name


def test_what_is_described_is_what_comes(client: TestClient) -> None:
    json_type = {"content-type": "application/json"}
    for body in (b"", b"[]", b"{", b"\xff", b"[" * 100_000):
        answer = client.post("/api/auth/register", content=body, headers=json_type)
        assert answer.status_code in (400, 422)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json().keys() >= {"type", "title", "status", "detail"}


def test_an_account_route_names_all_its_methods_and_answers_head(client: TestClient) -> None:
    assert client.delete("/api/auth/me").headers["allow"] == "GET, HEAD, PATCH, PUT"
    assert client.head("/api/healthz").status_code == 200
