import asyncio
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from prometheus_client import generate_latest

from shared.http.middleware import HeadAsGet, Observed, PathForms
from shared.http.problems import install_problem_handlers


@pytest.fixture
def call() -> Any:
    api = FastAPI(redirect_slashes=False)
    install_problem_handlers(api)

    @api.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    router = APIRouter()

    @router.get("/thing/{name}")
    def thing(name: str) -> str:
        return name

    @router.put("/thing/{name}")
    def change(name: str) -> str:
        return name

    api.include_router(router)

    @api.get("/broken")
    def broken() -> None:
        raise ValueError("a secret detail")

    transport = httpx.ASGITransport(PathForms(HeadAsGet(Observed(api))), raise_app_exceptions=False)

    def send(method: str, path: str, **more: Any) -> httpx.Response:
        async def go() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **more)

        return asyncio.run(go())

    return send


@pytest.mark.parametrize("path", ["/size", "/size/", "/api/size", "/api/size/"])
def test_a_route_answers_under_api_and_without_and_with_a_slash(call: Any, path: str) -> None:
    assert call("POST", path, content=b"four").json() == 4


def test_an_unexpected_error_is_a_problem_without_details(call: Any) -> None:
    answer = call("GET", "/broken")
    assert answer.status_code == 500
    assert answer.json()["type"].endswith("/internal-error")
    assert "secret" not in answer.text


def test_an_unknown_route_and_method_are_problems(call: Any) -> None:
    assert call("GET", "/nowhere").json()["detail"] == "no route GET /nowhere"
    refused = call("DELETE", "/size")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_a_wrong_method_is_told_every_right_one(call: Any) -> None:
    refused = call("DELETE", "/api/thing/a/")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, PUT")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["detail"] == "/thing/a takes GET, HEAD, PUT; not DELETE"


def test_methods_that_somebody_makes_up_are_one_in_metrics(call: Any) -> None:
    for method in ("QQAA1", "QQAA2", "get"):
        assert call(method, "/size").status_code == 405
    metrics = generate_latest().decode()
    assert 'method="other",route="/size",status="4xx"' in metrics
    assert "QQAA" not in metrics
    assert 'method="get"' not in metrics


def test_head_is_get_without_the_body(call: Any) -> None:
    whole, head = call("GET", "/thing/a"), call("HEAD", "/api/thing/a")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == whole.headers[name]
    refused = call("HEAD", "/size")
    assert (refused.status_code, refused.content, refused.headers["allow"]) == (405, b"", "POST")


def test_the_trace_context_of_the_request_is_kept_and_a_broken_one_replaced(call: Any) -> None:
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert call("POST", "/size", headers={"traceparent": given}).headers["traceresponse"] == given
    fresh = call("POST", "/size", headers={"traceparent": "nonsense"}).headers["traceresponse"]
    assert fresh != "nonsense"
    assert len(fresh) == len(given)
