"""The folder store's signed URLs over a real server: parts that come in every way, and objects that are read."""

import base64
import hashlib
import random
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from functions.upload import storage_routes
from shared.config import Settings
from shared.db.session import Database
from shared.http.blocks import BLOCK_BYTES
from shared.runtime.function import Function
from shared.runtime.services import Services
from shared.security.keys import KeyStore
from shared.storage.factory import make_storage
from shared.storage.folder import FolderStorage
from shared.storage.port import Part
from tests.serving import serving

HOUR = timedelta(hours=1)
PART = 3 * BLOCK_BYTES


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


class Upload:
    """An upload of parts of 3 MiB, and a server that takes them."""

    def __init__(self, store: FolderStorage, port: int, client: httpx.Client) -> None:
        self.store = store
        self.port = port
        self.client = client
        self.id = store.start_multipart("incoming", "a", "image/tiff", PART)

    def path(self, number: int) -> str:
        url = urlsplit(self.store.sign_part("incoming", "a", self.id, number, HOUR))
        return f"{url.path}?{url.query}"

    def put(self, number: int, data: Any, **headers: str) -> httpx.Response:
        return self.client.put(self.path(number), content=data, headers=headers)

    def received(self) -> list[Part]:
        return self.store.list_parts("incoming", "a", self.id)

    def begin(self, number: int, length: int, *more: str) -> socket.socket:
        """A connection that has sent the head of a part."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        lines = [f"PUT {self.path(number)} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *more]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return connection

    def complete(self) -> bytes:
        self.store.complete_multipart("incoming", "a", self.id, self.received())
        return self.store.read("incoming", "a")

    def until(self, parts: list[Part], writers: int) -> None:
        """Wait until these parts were received, and so many are being written."""
        deadline = time.monotonic() + 10
        while (found := (self.received(), self.writers())) != (parts, writers):
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def writers(self) -> int:
        return len(list(self.store._root.glob(f".uploads/{self.id}/*/*.lock")))


@pytest.fixture
def upload(settings: Settings) -> Iterator[Upload]:
    keys = KeyStore(settings)
    store = make_storage(settings, "http://localhost", lambda: keys.secrets(storage_routes.SIGNING))
    assert isinstance(store, FolderStorage)
    services = Services(settings, Database("postgresql+psycopg2://nowhere"), store)
    with (
        serving(services, [Function("storage", router=storage_routes.router)]) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        yield Upload(store, port, client)


# Parts


@pytest.mark.parametrize("size", [0, 1, 5000, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, PART])
@pytest.mark.parametrize("form", ["declared", "chunked"])
def test_a_part_is_stored_as_it_was_sent(upload: Upload, size: int, form: str) -> None:
    data = noise(size)
    pieces = iter([data[: size // 3], data[size // 3 :]])
    answer = upload.put(1, data if form == "declared" else pieces)
    assert answer.status_code == 200
    assert upload.received() == [Part(1, answer.headers["etag"].strip('"'), size)]
    assert upload.complete() == data


def test_parts_over_one_connection_do_not_mix(upload: Upload) -> None:
    with socket.create_connection(("127.0.0.1", upload.port), timeout=10) as connection:
        sent = b""
        for number in (1, 2, 3):
            head = f"PUT {upload.path(number)} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {PART}\r\n\r\n"
            sent += head.encode() + noise(PART, number)
        connection.sendall(sent)  # all at once: the next head comes right behind a body
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 3:
            block = connection.recv(1 << 16)
            assert block, answers
            answers += block
    assert upload.complete() == noise(PART, 1) + noise(PART, 2) + noise(PART, 3)


def test_a_part_that_comes_in_drops_is_stored_too(upload: Upload) -> None:
    data = noise(200_000)
    with upload.begin(1, len(data)) as connection:
        for start in range(0, len(data), 10_000):
            connection.sendall(data[start : start + 10_000])
            time.sleep(0.005)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert upload.complete() == data


def test_a_client_that_asks_first_is_told_to_go_on(upload: Upload) -> None:
    data = noise(PART)
    with upload.begin(1, PART, "Expect: 100-continue") as connection:
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 100")
        connection.sendall(data)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert upload.complete() == data


def test_a_part_that_is_cut_off_was_not_received(upload: Upload) -> None:
    before = upload.put(2, b"end")
    with upload.begin(1, PART) as connection:
        connection.sendall(noise(PART - 1))
        upload.until([Part(2, before.headers["etag"].strip('"'), 3)], 1)
    upload.until([Part(2, before.headers["etag"].strip('"'), 3)], 0)
    upload.put(1, noise(PART))
    assert upload.complete() == noise(PART) + b"end"


@pytest.mark.parametrize("form", ["declared", "chunked"])
def test_a_part_too_large_for_its_place_is_refused(upload: Upload, form: str) -> None:
    upload.put(4, b"neighbour")
    pieces = iter([noise(BLOCK_BYTES)] * 3 + [b"x"])
    answer = upload.put(3, noise(PART) + b"x" if form == "declared" else pieces)
    assert answer.status_code == 413
    assert f"at most {PART} bytes" in answer.json()["detail"]
    upload.until(upload.received(), 0)
    assert [part.number for part in upload.received()] == [4]


def test_one_declared_too_large_is_refused_before_it_is_sent(upload: Upload) -> None:
    with upload.begin(3, PART + 1) as connection:
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413")


def test_the_same_part_from_two_clients_is_one_of_them(upload: Upload) -> None:
    with upload.begin(1, 6) as first:
        first.sendall(b"fir")
        upload.until([], 1)
        with upload.begin(1, 6) as second:
            second.sendall(b"second")
            time.sleep(0.3)
            assert upload.received() == []  # it waits
            first.sendall(b"st!")
            assert first.recv(1 << 16).startswith(b"HTTP/1.1 200")
            assert second.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert upload.complete() == b"second"


def test_where_the_first_goes_the_second_comes_in(upload: Upload) -> None:
    with upload.begin(1, 6) as first:
        first.sendall(b"fir")
        upload.until([], 1)
        second = upload.begin(1, 6)
        second.sendall(b"second")
    with second:
        assert second.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert upload.complete() == b"second"


def test_a_part_that_stays_busy_is_a_conflict(upload: Upload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_routes, "BUSY_SECONDS", 0.2)
    with upload.begin(1, 6) as first:
        first.sendall(b"fir")
        upload.until([], 1)
        answer = upload.put(1, b"second")
        assert (answer.status_code, answer.headers["retry-after"]) == (409, "5")
        assert answer.json()["type"].endswith("/part-busy")


def test_a_url_is_for_one_part_of_one_upload(upload: Upload) -> None:
    assert upload.client.put(upload.path(1).replace("umber=1", "umber=2"), content=b"x").status_code == 403
    late = upload.path(1)
    upload.store.abort_multipart("incoming", "a", upload.id)
    assert upload.client.put(late, content=b"x").status_code == 404


@pytest.mark.parametrize(
    ("header", "algorithm"), [("Content-MD5", "md5"), ("x-amz-checksum-sha256", "sha256")]
)
def test_a_checksum_that_is_sent_is_checked(upload: Upload, header: str, algorithm: str) -> None:
    data = noise(BLOCK_BYTES + 5)
    right = base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
    wrong = base64.b64encode(hashlib.new(algorithm, b"other").digest()).decode()
    refused = upload.put(1, data, **{header: wrong})
    assert refused.status_code == 400
    assert header.lower() in refused.json()["detail"]
    assert upload.received() == []
    assert upload.put(1, data, **{header: "nonsense"}).status_code == 400
    assert upload.put(1, data, **{header: right}).status_code == 200


# Reading


@pytest.fixture
def link(upload: Upload) -> str:
    """The URL of an object of ten digits."""
    upload.store.put("studies", "digits", b"0123456789", "text/plain")
    url = urlsplit(upload.store.sign_get("studies", "digits", HOUR))
    return f"{url.path}?{url.query}"


@pytest.mark.parametrize(
    ("wanted", "body", "span"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
    ],
)
def test_one_range_is_read(upload: Upload, link: str, wanted: str, body: bytes, span: str) -> None:
    answer = upload.client.get(link, headers={"Range": wanted})
    assert (answer.status_code, answer.content, answer.headers["content-range"]) == (206, body, span)
    assert answer.headers["content-length"] == str(len(body))


@pytest.mark.parametrize("wanted", ["bytes=0-1,4-5", "lines=1-2", "bytes=5-2", "bytes=", "bytes=a-b"])
def test_what_is_no_single_range_is_answered_with_all(upload: Upload, link: str, wanted: str) -> None:
    answer = upload.client.get(link, headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_past_the_end_is_told_the_size(upload: Upload, link: str, wanted: str) -> None:
    answer = upload.client.get(link, headers={"Range": wanted})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */10")


def test_a_range_of_an_object_that_changed_is_all_of_the_new_one(upload: Upload, link: str) -> None:
    etag = upload.client.get(link).headers["etag"]
    wanted = {"Range": "bytes=0-3", "If-Range": etag}
    assert upload.client.get(link, headers=wanted).status_code == 206
    upload.store.put("studies", "digits", b"changed")
    answer = upload.client.get(link, headers=wanted)
    assert (answer.status_code, answer.content) == (200, b"changed")


def test_head_tells_the_size_of_the_whole_and_sends_nothing(upload: Upload, link: str) -> None:
    answer = upload.client.head(link, headers={"Range": "bytes=0-3"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "10"
    assert upload.client.get(link).content == b"0123456789"  # over the same connection


def test_head_of_a_large_object_does_not_read_it(upload: Upload) -> None:
    path = upload.store._root / "studies/huge"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a terabyte of nothing: reading it would take minutes
    url = urlsplit(upload.store.sign_get("studies", "huge", HOUR))
    answer = upload.client.head(f"{url.path}?{url.query}")
    assert answer.headers["content-length"] == str(1 << 40)
    assert upload.client.get("/api/healthz").status_code == 200
