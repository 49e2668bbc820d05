import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from shared.http.middleware import DOCUMENT_BYTES, BodyLimit, Observed, PathForms
from shared.http.problems import install_problem_handlers

LIMIT = 4 * DOCUMENT_BYTES


@pytest.fixture
def call() -> Any:
    api = FastAPI(redirect_slashes=False)
    install_problem_handlers(api)

    @api.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    @api.get("/broken")
    def broken() -> None:
        raise ValueError("a secret detail")

    transport = httpx.ASGITransport(PathForms(BodyLimit(Observed(api), LIMIT)), raise_app_exceptions=False)

    def send(method: str, path: str, **more: Any) -> httpx.Response:
        async def go() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **more)

        return asyncio.run(go())

    return send


@pytest.mark.parametrize("path", ["/size", "/size/", "/api/size", "/api/size/"])
def test_a_route_answers_under_api_and_without_and_with_a_slash(call: Any, path: str) -> None:
    assert call("POST", path, content=b"four").json() == 4


def chunks(size: int) -> Iterator[bytes]:
    yield from (bytes(1 << 16) for _ in range(size >> 16))


STREAM = {"content-type": "multipart/form-data"}


@pytest.mark.parametrize(
    ("size", "headers", "status"),
    [
        (DOCUMENT_BYTES, {}, 200),
        (DOCUMENT_BYTES + (1 << 16), {}, 413),
        (LIMIT, STREAM, 200),
        (LIMIT + (1 << 16), STREAM, 413),
    ],
)
@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_its_limit_is_refused_declared_or_not(
    call: Any, size: int, headers: dict[str, str], status: int, declared: bool
) -> None:
    async def streamed() -> Any:
        for chunk in chunks(size):
            yield chunk

    content = bytes(size) if declared else streamed()
    answer = call("POST", "/size", content=content, headers=headers)
    assert answer.status_code == status
    if status == 413:
        assert answer.headers["content-type"] == "application/problem+json"


def test_an_unexpected_error_is_a_problem_without_details(call: Any) -> None:
    answer = call("GET", "/broken")
    assert answer.status_code == 500
    assert answer.json()["type"].endswith("/internal-error")
    assert "secret" not in answer.text


def test_an_unknown_route_and_method_are_problems(call: Any) -> None:
    assert call("GET", "/nowhere").json()["detail"] == "no route GET /nowhere"
    assert call("DELETE", "/size").status_code == 405


def test_the_trace_context_of_the_request_is_kept_and_a_broken_one_replaced(call: Any) -> None:
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert call("POST", "/size", headers={"traceparent": given}).headers["traceresponse"] == given
    fresh = call("POST", "/size", headers={"traceparent": "nonsense"}).headers["traceresponse"]
    assert fresh != "nonsense"
    assert len(fresh) == len(given)


def test_every_answer_has_the_security_headers(call: Any) -> None:
    headers = call("POST", "/size").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
