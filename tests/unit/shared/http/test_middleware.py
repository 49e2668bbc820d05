import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Form, Request

from shared.http.middleware import DOCUMENT_BYTES, BodyLimit, HeadAsGet, Observed, PathForms
from shared.http.problems import install_problem_handlers

LIMIT = 4 * DOCUMENT_BYTES


@pytest.fixture
def call() -> Any:
    api = FastAPI(redirect_slashes=False)
    install_problem_handlers(api)

    @api.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    @api.post("/process-mri")
    @api.post("/process-mri-too")
    async def upload(request: Request) -> int:
        return len(await request.body())

    @api.put("/storage/{key:path}")
    async def part(key: str, request: Request) -> int:
        return len(await request.body())

    @api.post("/form")
    def form(field: Annotated[str, Form()]) -> int:
        return len(field)

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

    transport = httpx.ASGITransport(
        PathForms(HeadAsGet(Observed(BodyLimit(api, LIMIT)))), raise_app_exceptions=False
    )

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


SMALL, MUCH = DOCUMENT_BYTES, LIMIT
OVER = 1 << 16


@pytest.mark.parametrize(
    ("method", "path", "size", "status"),
    [
        ("POST", "/api/size/", SMALL, 200),
        ("POST", "/api/size/", SMALL + OVER, 413),
        ("POST", "/api/process-mri/", MUCH, 200),
        ("POST", "/process-mri", MUCH + OVER, 413),
        ("PUT", "/api/storage/studies/a", MUCH, 200),
        ("PUT", "/storage/studies/a", MUCH + OVER, 413),
        ("POST", "/process-mri-too", SMALL + OVER, 413),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "application/octet-stream"])
@pytest.mark.parametrize("declared", [True, False])
def test_the_path_sets_the_limit_of_a_body_whatever_type_or_length_it_declares(
    call: Any, method: str, path: str, size: int, status: int, kind: str, declared: bool
) -> None:
    answer = call(method, path, content=bytes(size) if declared else streamed(size), headers=labelled(kind))
    assert answer.status_code == status
    if status == 413:
        assert_is_too_large(answer)


def test_a_form_that_turns_out_too_large_is_told_so_and_not_that_it_is_broken(call: Any) -> None:
    answer = call("POST", "/form", content=form_of(DOCUMENT_BYTES), headers=labelled(FORM))
    assert answer.status_code == 413
    assert_is_too_large(answer)


FORM = "multipart/form-data; boundary=x"


def labelled(kind: str) -> dict[str, str]:
    return {"content-type": kind}


async def streamed(size: int) -> Any:
    for chunk in chunks(size):
        yield chunk


async def form_of(size: int) -> Any:
    yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    for chunk in chunks(size):
        yield chunk
    yield b"\r\n--x--\r\n"


def assert_is_too_large(answer: httpx.Response) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith("/too-large")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(answer.headers["traceresponse"]) == 55


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


def test_every_answer_has_the_security_headers(call: Any) -> None:
    headers = call("POST", "/size").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
