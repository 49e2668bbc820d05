"""Bodies that are received straight into the memory from which they are written: whole, or not at all, and not for ever."""

import contextlib
import hashlib
import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from fastapi import APIRouter, Request

from shared.config import Settings
from shared.db.session import Database
from shared.http.access import public
from shared.http.blocks import BLOCK_BYTES, write_blocks
from shared.http.protocol import PatientConfig
from shared.http.straight import offered
from shared.runtime.function import Function
from shared.runtime.services import Services
from shared.storage.factory import make_storage
from tests.serving import serving

SECONDS = 1.0
LIMIT = 32 * BLOCK_BYTES


class Disk:
    """What was written, block by block; as slowly as the test wants, and broken where it wants."""

    def __init__(self) -> None:
        self.blocks: list[int] = []
        self.digest = hashlib.sha256()
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: Exception | None = None

    def write(self, block: memoryview) -> None:
        self.go_on.wait(10)
        if self.error:
            raise self.error
        self.blocks.append(len(block))
        self.digest.update(block)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture(params=["uvloop", "asyncio"])
def port(request: pytest.FixtureRequest, settings: Settings, disk: Disk, monkeypatch: Any) -> Iterator[int]:
    """A server that writes bodies to that disk, on each event loop that it may run on."""
    if request.param == "asyncio":
        monkeypatch.setattr("shared.http.server.PatientConfig", on_asyncio())
    else:
        pytest.importorskip("uvloop")
    router = APIRouter()

    @router.put("/storage/disk")
    @public("a test")
    async def take(request: Request) -> list[Any]:
        is_straight = offered(request.scope) is not None
        await write_blocks(request, disk.write)
        return [is_straight, sum(disk.blocks), disk.digest.hexdigest()]

    changed = settings.model_copy(update={"body_seconds": SECONDS, "max_upload_bytes": LIMIT})
    nowhere = Database("postgresql+psycopg2://nowhere")
    services = Services(changed, nowhere, make_storage(changed, "http://localhost", bytes(32)))
    with serving(services, [Function("disk", router=router)]) as port:
        yield port


def on_asyncio() -> Any:
    return partial(PatientConfig, loop="asyncio")


@pytest.fixture
def connection(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        yield connection


def head(*lines: str) -> bytes:
    return "\r\n".join(["PUT /api/storage/disk HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def answer(connection: socket.socket) -> bytes:
    """Status line, headers and body of the next answer, and nothing of what follows it."""
    with connection.makefile("rb", buffering=0) as stream:
        lines = list(iter(stream.readline, b"\r\n"))
        [length] = [int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length")]
        return b"".join(lines) + stream.read(length)


@pytest.mark.parametrize("size", [0, 1, 1 << 16, BLOCK_BYTES, 3 * BLOCK_BYTES + 7])
@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_a_body_comes_whole_and_in_blocks(
    connection: socket.socket, disk: Disk, size: int, pause: float
) -> None:
    data = random.Random(size).randbytes(size)
    connection.sendall(head(f"Content-Length: {size}"))
    time.sleep(pause)
    connection.sendall(data)
    told = answer(connection)
    assert f',{size},"{hashlib.sha256(data).hexdigest()}"]'.encode() in told
    assert size < 1 << 16 or b"[true," in told  # a small one may be there before anybody asks
    assert disk.blocks[:-1] == [BLOCK_BYTES] * (len(disk.blocks) - 1)


def test_what_follows_a_body_is_the_next_request(connection: socket.socket, disk: Disk) -> None:
    data = random.Random(1).randbytes(2 * BLOCK_BYTES + 5)
    request = head(f"Content-Length: {len(data)}") + data
    threading.Thread(target=connection.sendall, args=(request * 3,)).start()
    for count in (1, 2, 3):
        whole = hashlib.sha256(data * count).hexdigest()
        assert f'[true,{len(data) * count},"{whole}"]'.encode() in answer(connection)


def test_a_body_without_a_length_comes_as_messages(connection: socket.socket) -> None:
    data = random.Random(2).randbytes(BLOCK_BYTES + 3)
    chunk = f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n"
    connection.sendall(head("Transfer-Encoding: chunked") + chunk)
    assert f'[false,{len(data)},"{hashlib.sha256(data).hexdigest()}"]'.encode() in answer(connection)


def test_a_slow_disk_holds_the_sender_back(connection: socket.socket, disk: Disk) -> None:
    disk.go_on.clear()
    size = 30 * BLOCK_BYTES
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    connection.sendall(head(f"Content-Length: {size}"))
    sender = threading.Thread(target=connection.sendall, args=(bytes(size),))
    sender.start()
    assert select.select([connection], [], [], 1.5)[0] == []  # no answer
    assert disk.blocks == []
    assert sender.is_alive()  # two blocks are held, and what the system keeps
    disk.go_on.set()
    sender.join()
    assert f"[true,{size},".encode() in answer(connection)


def test_a_disk_that_breaks_ends_the_request(connection: socket.socket, disk: Disk) -> None:
    disk.error = ArithmeticError("a mistake of ours")
    connection.sendall(head(f"Content-Length: {4 * BLOCK_BYTES}") + bytes(2 * BLOCK_BYTES))
    assert answer(connection).startswith(b"HTTP/1.1 500")


@pytest.mark.parametrize("sent", [0, 100, BLOCK_BYTES + 5])
def test_a_body_that_stops_coming_is_cut_off(connection: socket.socket, sent: int) -> None:
    started = time.monotonic()
    connection.sendall(head(f"Content-Length: {2 * BLOCK_BYTES}") + bytes(sent))
    assert answer(connection).startswith(b"HTTP/1.1 408")
    assert 0.9 < time.monotonic() - started < 6


def test_one_that_only_trickles_is_cut_off_too(connection: socket.socket) -> None:
    connection.sendall(head(f"Content-Length: {2 * BLOCK_BYTES}"))
    started = time.monotonic()
    connection.setblocking(False)
    while time.monotonic() - started < 6:
        try:
            connection.send(b"x")
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408")
            break
        except BlockingIOError:
            time.sleep(0.05)
    assert time.monotonic() - started < 5


def test_one_over_the_limit_is_refused_as_it_comes(connection: socket.socket) -> None:
    chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    sender = threading.Thread(target=send_what_is_taken, args=(connection, chunk * 33 + b"0\r\n\r\n"))
    connection.sendall(head("Transfer-Encoding: chunked"))
    sender.start()
    assert answer(connection).startswith(b"HTTP/1.1 413")
    connection.shutdown(socket.SHUT_RDWR)
    sender.join()


def send_what_is_taken(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(data)
