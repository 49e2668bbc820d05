"""What an upload that is not allowed costs: nothing."""

import asyncio
from typing import Any

import httpx
import pytest

from functions import upload
from shared.http.app import create_api, harden
from shared.runtime.services import Services
from tests.contract.conftest import ClientFor, LogIn

HEAD = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.nii"\r\n\r\n'
FORM = {"content-type": "multipart/form-data; boundary=x"}


def send(services: Services, headers: dict[str, str], path: str = "/api/process-mri") -> tuple[Any, int]:
    """The answer to a 4 MiB upload, and how many of its 64 blocks were read."""
    read = 0

    async def body() -> Any:
        nonlocal read
        yield HEAD
        for _ in range(64):
            read += 1
            yield bytes(1 << 16)
        yield b"\r\n--x--\r\n"

    async def go() -> httpx.Response:
        app = harden(create_api([upload.function], services, {}), services)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.post(path, content=body(), headers={**FORM, **headers})

    return asyncio.run(go()), read


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer ", "Bearer x", "Bearer a.b.c", "Basic eDp5"])
@pytest.mark.parametrize("path", ["/api/process-mri", "/process-mri/"])
def test_an_upload_without_a_valid_token_is_refused_unread(services: Services, token: str, path: str) -> None:
    answer, read = send(services, {"authorization": token}, path)
    assert (answer.status_code, read) == (401, 0)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("scopes", [["reports:read"], ["studies:read", "account:read"]])
def test_an_upload_by_a_key_that_may_not_is_refused_unread(
    services: Services, client_for: ClientFor, register_and_login: LogIn, scopes: list[str]
) -> None:
    client = client_for()
    wanted = {"name": "Scanner 3", "scopes": scopes}
    key = client.post("/api/auth/api-keys", json=wanted, headers=register_and_login(client, "ada")).json()
    answer, read = send(services, {"x-api-key": key["key"]})
    assert (answer.status_code, read) == (403, 0)
    assert answer.json()["detail"] == "this API key was not made for studies:write; make one with that scope"


def test_with_a_token_it_is_read(
    services: Services, client_for: ClientFor, register_and_login: LogIn
) -> None:
    answer, read = send(services, register_and_login(client_for(), "ada"))
    assert (answer.status_code, read) == (415, 64)
