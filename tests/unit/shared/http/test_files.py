from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from shared.http.files import IfNoneMatch, serve_file
from shared.storage.folder import FolderStorage
from shared.storage.signing import UrlSigner

SHA256 = "ab" * 32


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    storage = FolderStorage(tmp_path, UrlSigner(b"secret"), "http://test")
    storage.put("studies", "a/b.svg", BytesIO(b"<svg/>"), "image/svg+xml")
    where = {"bucket": "studies", "key": "a/b.svg", "size": 6}
    file = SimpleNamespace(**where, sha256=SHA256, media_type="image/svg+xml")
    api = FastAPI()

    @api.get("/{name:path}")
    def get(name: str, if_none_match: IfNoneMatch = None) -> Any:
        return serve_file(storage, file, name, if_none_match)

    return TestClient(api)


def test_a_file_comes_with_its_size_name_and_hash_and_cannot_run_anything(client: TestClient) -> None:
    answer = client.get("/overlay.svg")
    assert (answer.status_code, answer.content) == (200, b"<svg/>")
    headers = answer.headers
    assert headers["etag"] == f'"{SHA256}"'
    assert headers["content-length"] == "6"
    assert headers["content-disposition"] == 'inline; filename="overlay.svg"'
    assert headers["cache-control"] == "private, no-cache"
    policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert headers["content-security-policy"] == policy


@pytest.mark.parametrize("copy", [f'"{SHA256}"', f'W/"{SHA256}"', f'"other" , W/"{SHA256}"', "*"])
def test_a_current_copy_is_not_sent_again(client: TestClient, copy: str) -> None:
    answer = client.get("/a", headers={"If-None-Match": copy})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == f'"{SHA256}"'
    assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("copy", ['"other"', SHA256, ""])
def test_another_copy_is_replaced(client: TestClient, copy: str) -> None:
    assert client.get("/a", headers={"If-None-Match": copy}).status_code == 200


def test_a_name_with_quotes_or_beyond_ascii_is_encoded(client: TestClient) -> None:
    named = client.get("/%22; x=1 gr%C3%B6ße").headers
    assert named["content-disposition"] == "inline; filename*=UTF-8''%22%3B%20x%3D1%20gr%C3%B6%C3%9Fe"
