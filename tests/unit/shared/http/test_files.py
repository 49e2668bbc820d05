from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from shared.errors import RangeNotSatisfiable
from shared.http import files
from shared.http.files import IfNoneMatch, Part, PartDep, serve_file
from shared.http.problems import install_problem_handlers
from shared.storage.folder import FolderStorage
from shared.storage.signing import UrlSigner
from shared.storage.streams import blocks

SHA256 = "ab" * 32
NUMBERS = bytes(range(100))


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    storage = FolderStorage(tmp_path, UrlSigner(b"secret"), "http://test")
    storage.put("studies", "a/b.svg", BytesIO(b"<svg/>"), "image/svg+xml")
    storage.put("studies", "numbers", NUMBERS)
    where = {"bucket": "studies", "key": "a/b.svg", "size": 6}
    file = SimpleNamespace(**where, sha256=SHA256, media_type="image/svg+xml")
    numbers = SimpleNamespace(bucket="studies", key="numbers", size=100, sha256=SHA256, media_type="a/b")
    api = FastAPI()
    install_problem_handlers(api)

    @api.get("/in-parts")
    def get_part(part: PartDep, if_none_match: IfNoneMatch = None) -> Any:
        return serve_file(storage, numbers, "numbers", if_none_match, part)

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


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, 100),
        ("bytes=-5", 95, 100),
        ("bytes=-500", 0, 100),
        ("bytes=99-99", 99, 100),
        ("bytes=90-1000", 90, 100),
        (" bytes=3-4 ", 3, 5),
    ],
)
@pytest.mark.parametrize("block", [7, 1 << 20])
def test_the_part_that_is_asked_for_is_sent(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, asked: str, start: int, end: int, block: int
) -> None:
    monkeypatch.setattr(files, "PART_BLOCK", block)
    answer = client.get("/in-parts", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, NUMBERS[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/100"
    assert answer.headers["content-length"] == str(end - start)
    assert answer.headers["etag"] == f'"{SHA256}"'


@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,5-6", "items=0-1", "bytes=-", "bytes=9-3", "bytes", "bytes=a-b", f"bytes={'9' * 19}-", ""],
)
def test_what_is_no_part_gets_the_whole(client: TestClient, asked: str) -> None:
    answer = client.get("/in-parts", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, NUMBERS)
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_part_beyond_the_end_is_refused_with_the_size(client: TestClient, asked: str) -> None:
    answer = client.get("/in-parts", headers={"Range": asked})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */100")


def test_a_part_of_a_file_that_was_replaced_is_not_mixed_with_the_old_one(client: TestClient) -> None:
    part = {"Range": "bytes=0-9"}
    same = client.get("/in-parts", headers={**part, "If-Range": f'"{SHA256}"'})
    assert same.status_code == 206
    for other in ('"cd"', f'W/"{SHA256}"', "Tue, 03 Mar 2026 09:00:00 GMT"):
        answer = client.get("/in-parts", headers={**part, "If-Range": other})
        assert (answer.status_code, answer.content) == (200, NUMBERS)


def test_a_current_copy_is_not_sent_again_in_parts_either(client: TestClient) -> None:
    asked = {"Range": "bytes=0-9", "If-None-Match": f'"{SHA256}"'}
    assert client.get("/in-parts", headers=asked).status_code == 304


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60), st.sampled_from(["both", "first", "last"]))
def test_a_part_lies_within_the_file_and_begins_where_it_was_asked_for(
    size: int, first: int, last: int, given_ends: str
) -> None:
    asked = {"both": f"{first}-{last}", "first": f"{first}-", "last": f"-{last}"}[given_ends]
    try:
        part = Part(f"bytes={asked}").of(size, SHA256)
    except RangeNotSatisfiable:
        assert size == 0 or (first >= size if given_ends != "last" else last == 0)
        return
    if part is None:
        assert given_ends == "both" and first > last
        return
    start, length = part
    assert 0 < length <= size - start
    assert start == (max(0, size - last) if given_ends == "last" else first)


def test_a_file_that_nobody_reads_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(NUMBERS)
    stream = path.open("rb")
    answer = blocks(stream)
    assert not stream.closed
    del answer
    assert stream.closed
