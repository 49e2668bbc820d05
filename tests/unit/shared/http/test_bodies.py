import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Form, Request

from shared.http.bodies import DOCUMENT_BYTES, BodyLimit, HeadLimit
from shared.http.middleware import PathForms
from shared.http.problems import install_problem_handlers

LIMIT = 4 * DOCUMENT_BYTES
SECONDS = 0.3


@pytest.fixture
def call() -> Any:
    api = FastAPI(redirect_slashes=False)
    install_problem_handlers(api)

    @api.post("/size")
    @api.post("/process-mri")
    @api.post("/process-mri-too")
    @api.put("/storage/{key:path}")
    async def size(request: Request) -> int:
        return len(await request.body())

    @api.post("/form")
    def form(field: Annotated[str, Form()]) -> int:
        return len(field)

    @api.post("/slowly")
    async def slowly(request: Request) -> int:
        size = 0
        async for block in request.stream():
            await asyncio.sleep(SECONDS)
            size += len(block)
        return size

    limited = PathForms(HeadLimit(BodyLimit(api, LIMIT, SECONDS), 4096))
    transport = httpx.ASGITransport(limited, raise_app_exceptions=False)

    def send(method: str, path: str, **more: Any) -> httpx.Response:
        async def go() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **more)

        return asyncio.run(go())

    return send


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


async def pausing(*pauses: float) -> Any:
    for pause in pauses:
        yield bytes(4096)
        await asyncio.sleep(pause)
    yield b"the end"


@pytest.mark.parametrize("path", ["/size", "/form", "/process-mri"])
def test_a_body_that_stops_coming_is_not_waited_for(call: Any, path: str) -> None:
    async def stopping() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="field"\r\n\r\n'
        await asyncio.sleep(30)

    answer = call("POST", path, content=stopping(), headers=labelled(FORM))
    assert answer.status_code == 408
    assert answer.json()["type"].endswith("/request-timeout")
    assert answer.headers["connection"] == "close"


def test_pauses_that_are_short_are_waited_for_however_many_there_are(call: Any) -> None:
    assert call("POST", "/size", content=pausing(*[0.05] * 10)).json() == 10 * 4096 + 7


def test_a_body_that_trickles_is_given_up_though_it_never_stops(call: Any) -> None:
    async def trickle() -> Any:
        for _ in range(100):
            yield b"x"
            await asyncio.sleep(0.02)

    assert call("POST", "/size", content=trickle()).status_code == 408


def test_the_application_may_take_its_time_over_a_body(call: Any) -> None:
    """`/slowly` reads one block at a time; the time that it takes itself is not held against the client."""
    assert call("POST", "/slowly", content=pausing(0, 0, 0)).json() == 3 * 4096 + 7


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([("x-a", "a" * 4096)], id="a long value"),
        pytest.param([("a" * 4096, "")], id="a long name"),
        pytest.param([("x-a", "b")] * 101, id="many"),
    ],
)
def test_a_head_over_the_limit_is_refused(call: Any, headers: list[tuple[str, str]]) -> None:
    answer = call("POST", "/size", headers=headers)
    assert answer.status_code == 431
    assert answer.json()["type"].endswith("/head-too-large")


def test_the_path_and_query_count_as_head(call: Any) -> None:
    assert call("POST", "/size?" + "a" * 4096).status_code == 431
    assert call("PUT", "/storage/" + "a" * 4096).status_code == 431
    assert call("PUT", "/storage/" + "a" * 2000).status_code == 200
