"""The HTTP server among clients that are slow, silent, too many or talk too much, over real sockets."""

import json
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from structlog.testing import capture_logs

from shared.config import Settings
from shared.db.session import Database
from shared.http.access import public
from shared.http.room import OVERFLOW
from shared.http.server import STOP_SECONDS
from shared.runtime.function import Function
from shared.runtime.services import Services
from shared.storage.factory import make_storage
from tests.serving import serving

QUICK = {
    "head_seconds": 1.0,
    "body_seconds": 1.0,
    "answer_seconds": 2.0,
    "idle_seconds": 2,
    "max_head_bytes": 4096,
}
GOOD = b"GET /api/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE = 64 << 20


def probe() -> Function:
    """A function with routes that read, wait and write much."""
    router = APIRouter()
    release = threading.Event()

    @router.post("/read")
    @public("a test")
    async def read(request: Request) -> int:
        return len(await request.body())

    @router.post("/ignore")
    @public("a test")
    async def ignore() -> str:
        return "not read"

    @router.get("/wait")
    @public("a test")
    def wait(seconds: float) -> str:
        release.wait(seconds)
        return "waited"

    @router.get("/release")
    @public("a test")
    def let_go() -> str:
        release.set()
        return "released"

    @router.get("/much")
    @public("a test")
    def much() -> Response:
        return StreamingResponse(bytes(1 << 20) for _ in range(LARGE >> 20))

    @router.get("/broken")
    @public("a test")
    def broken() -> None:
        raise ArithmeticError("a mistake of ours")

    @router.get("/who")
    @public("a test")
    def who(request: Request) -> list[str | None]:
        return [request.client.host if request.client else None, request.url.scheme]

    return Function("probe", router=router)


def services_without_database(settings: Settings) -> Services:
    """What the probe needs: no route of it asks for a row."""
    nowhere = Database("postgresql+psycopg2://nowhere")
    return Services(settings, nowhere, make_storage(settings, "http://localhost", bytes(32)))


@pytest.fixture
def start(settings: Settings) -> Iterator[Callable[..., int]]:
    """`start(setting=…)`: the port of a server with short deadlines."""
    with ExitStack() as stack:

        def begin(**more: Any) -> int:
            changed = settings.model_copy(update={**QUICK, **more})
            return stack.enter_context(serving(services_without_database(changed), [probe()]))

        yield begin


@pytest.fixture
def sockets() -> Iterator[Callable[..., socket.socket]]:
    """`sockets(port, address)`: a connection from there, closed at the end."""
    with ExitStack() as stack:

        def connect(port: int, address: str = "127.0.0.1") -> socket.socket:
            where = ("127.0.0.1", port)
            return stack.enter_context(
                socket.create_connection(where, timeout=10, source_address=(address, 0))
            )

        yield connect


def until_closed(connection: socket.socket) -> bytes:
    """All that still comes, until the server hangs up."""
    received = bytearray()
    try:
        while block := connection.recv(1 << 16):
            received += block
    except ConnectionResetError:
        pass
    return bytes(received)


def status_of(connection: socket.socket) -> int:
    """The status of the next answer on a connection that is kept; the answer is read to its end."""
    with connection.makefile("rb") as answer:
        status = int(answer.readline().split()[1])
        headers = dict(line.lower().split(b": ", 1) for line in iter(answer.readline, b"\r\n"))
        answer.read(int(headers[b"content-length"]))
    return status


def answer_of(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON body of the one answer before the server hangs up."""
    head, _, body = until_closed(connection).partition(b"\r\n\r\n")
    line, *rest = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in rest)}
    return int(line.split()[1]), headers, json.loads(body)


def dribble(connection: socket.socket, content: bytes, pause: float = 0.05) -> float:
    """Send byte by byte until the server answers or hangs up; returns the seconds that it took."""
    started = time.monotonic()
    for index in range(len(content)):
        try:
            connection.send(content[index : index + 1])
        except OSError:
            break
        time.sleep(pause)
        if has_answer(connection):
            break
    return time.monotonic() - started


def has_answer(connection: socket.socket) -> bool:
    """Whether the server said something, or hung up."""
    return bool(select.select([connection], [], [], 0)[0])


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        connection.settimeout(10)


def healthy(port: int, address: str = "127.0.0.1") -> bool:
    """Whether somebody new gets an answer."""
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(transport=transport, timeout=5) as client:
        return client.get(f"http://127.0.0.1:{port}/api/healthz").status_code == 200


def test_a_head_that_comes_byte_by_byte_is_cut_off_in_time(start: Any, sockets: Any) -> None:
    connection = sockets(start())
    assert 0.9 < dribble(connection, GOOD[:-2] + b"X-A: " + b"a" * 400) < 3
    status, headers, problem = answer_of(connection)
    assert status == 408
    assert problem["type"].endswith("/request-timeout")
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"


def test_so_is_the_second_head_of_a_connection(start: Any, sockets: Any) -> None:
    connection = sockets(start())
    connection.send(GOOD)
    assert status_of(connection) == 200
    started = time.monotonic()
    connection.send(GOOD[:20])
    assert answer_of(connection)[0] == 408
    assert 0.9 < time.monotonic() - started < 3


def test_a_connection_that_says_nothing_is_closed(start: Any, sockets: Any) -> None:
    connection = sockets(start())
    started = time.monotonic()
    assert until_closed(connection) == b""
    assert 0.9 < time.monotonic() - started < 3


def test_one_that_rests_between_requests_is_kept_for_a_while(start: Any, sockets: Any) -> None:
    connection = sockets(start())
    connection.send(GOOD)
    assert status_of(connection) == 200
    time.sleep(1.3)
    connection.send(GOOD)
    assert status_of(connection) == 200
    started = time.monotonic()
    assert until_closed(connection) == b""
    assert 1.5 < time.monotonic() - started < 4


@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
def test_a_body_that_stops_coming_is_cut_off(start: Any, sockets: Any, framing: bytes) -> None:
    connection = sockets(start())
    started = time.monotonic()
    connection.send(b"POST /api/read HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n\r\n")
    connection.send(b"5\r\nhello\r\n")
    status, headers, problem = answer_of(connection)
    assert status == 408
    assert problem["type"].endswith("/request-timeout")
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    assert 0.9 < time.monotonic() - started < 4


def test_a_body_that_only_trickles_is_cut_off_too(start: Any, sockets: Any) -> None:
    connection = sockets(start())
    connection.send(b"POST /api/read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
    assert dribble(connection, bytes(1000)) < 4
    assert answer_of(connection)[0] == 408


def test_a_body_that_comes_slowly_but_steadily_is_read(start: Any, sockets: Any) -> None:
    connection = sockets(start())
    connection.send(b"POST /api/read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n")
    for _ in range(20):
        connection.send(bytes(1000))
        time.sleep(0.1)
    assert b"\r\n\r\n20000" in connection.recv(1 << 16)


def test_after_its_answer_a_body_may_not_go_on_for_ever(start: Any, sockets: Any) -> None:
    connection = sockets(start())
    connection.send(b"POST /api/ignore HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
    answer = connection.recv(1 << 16)
    while b"not read" not in answer:
        answer += connection.recv(1 << 16)
    assert dribble(connection, bytes(1000)) < 4


def test_a_client_that_does_not_read_is_dropped(start: Any, sockets: Any) -> None:
    connection = sockets(start())
    connection.send(b"GET /api/much HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(4)
    assert len(until_closed(connection)) < LARGE


def test_one_that_reads_slowly_gets_it_all(start: Any, sockets: Any) -> None:
    connection = sockets(start())
    connection.send(b"GET /api/much HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    received = 0
    while block := connection.recv(1 << 20):
        received += len(block)
        time.sleep(0.05)
    assert received > LARGE


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 5000 + b"\r\n\r\n", id="one long header"),
        pytest.param(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 5000, id="one that does not end"),
        pytest.param(b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", id="a long path"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n", id="many headers"),
    ],
)
def test_a_head_over_the_limit_is_refused(start: Any, sockets: Any, head: bytes) -> None:
    connection = sockets(start())
    connection.send(head.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"))
    status, headers, problem = answer_of(connection)
    assert (status, problem["status"]) == (431, 431)
    assert headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("nonsense", [b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"HELO there\r\n\r\n"])
def test_what_is_no_http_is_told_so(start: Any, sockets: Any, nonsense: bytes) -> None:
    connection = sockets(start())
    connection.send(nonsense)
    status, headers, problem = answer_of(connection)
    assert (status, problem["status"]) == (400, 400)
    assert "server" not in headers


@pytest.mark.parametrize("path", ["read", "process-mri"])
def test_a_body_over_the_limit_is_refused_before_it_is_sent(start: Any, sockets: Any, path: str) -> None:
    connection = sockets(start(max_upload_bytes=1 << 20))
    connection.send(
        f"POST /api/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n".encode()
    )
    assert answer_of(connection)[0] == 413


def test_a_hundred_idle_and_a_hundred_dribbling_clients_keep_nobody_waiting(start: Any, sockets: Any) -> None:
    port = start(head_seconds=30.0)
    idle = [sockets(port) for _ in range(100)]
    for connection in [sockets(port) for _ in range(100)]:
        connection.send(GOOD[:30])
    started = time.monotonic()
    assert all(healthy(port) for _ in range(5))
    assert time.monotonic() - started < 3
    assert all(is_open(connection) for connection in idle)


SLOW_HEAD = GOOD[:20]
SLOW_BODY = b"POST /api/read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{"
UNREAD_BODY = b"GET /api/wait?seconds=20 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
UNREAD_ANSWER = b"GET /api/much HTTP/1.1\r\nHost: localhost\r\n\r\n"
WORK = b"GET /api/wait?seconds=20 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("first", [b"", SLOW_HEAD, SLOW_BODY, UNREAD_BODY, UNREAD_ANSWER])
@pytest.mark.parametrize("rest", [b"", SLOW_BODY])
def test_over_the_limit_of_connections_the_one_that_keeps_us_waiting_longest_goes(
    start: Any, sockets: Any, first: bytes, rest: bytes
) -> None:
    port = start(max_connections=6, head_seconds=30.0, body_seconds=30.0)
    longest = sockets(port, "127.0.0.9")
    longest.send(first)
    time.sleep(0.3)
    others = [sockets(port, f"127.0.0.{10 + index}") for index in range(5)]
    for connection in others:
        connection.send(rest)
    time.sleep(0.1)
    assert healthy(port)
    assert len(until_closed(longest)) < LARGE
    assert [is_open(connection) for connection in others] == [True] * 5
    with httpx.Client(trust_env=False) as client:
        client.get(f"http://127.0.0.1:{port}/api/release")


def test_one_address_has_half_the_places_and_makes_room_among_its_own(start: Any, sockets: Any) -> None:
    port = start(max_connections=6, head_seconds=30.0)
    others = [sockets(port, f"127.0.0.{10 + index}") for index in range(3)]
    time.sleep(0.2)
    greedy = [sockets(port) for _ in range(5)]
    assert healthy(port)
    assert [is_open(connection) for connection in greedy] == [False] * 3 + [True] * 2
    assert [is_open(connection) for connection in others] == [True] * 3


def test_a_proxy_speaks_for_many(start: Any, sockets: Any) -> None:
    port = start(max_connections=6, head_seconds=30.0, trusted_proxies=["127.0.0.0/30"])
    connections = [sockets(port, "127.0.0.2") for _ in range(5)]
    assert healthy(port)
    assert [is_open(connection) for connection in connections] == [True] * 5


def test_hundreds_of_slow_bodies_keep_nobody_out(start: Any, sockets: Any) -> None:
    port = start(body_seconds=30.0)
    for _ in range(505):
        sockets(port).send(SLOW_BODY)
    assert all(healthy(port, address) for address in ["127.0.0.1", "127.0.0.2"] * 5)


def test_from_many_addresses_neither(start: Any, sockets: Any) -> None:
    port = start(body_seconds=30.0)
    for index in range(505):
        sockets(port, f"127.0.1.{index % 250 + 1}").send(SLOW_BODY)
    assert all(healthy(port, address) for address in ["127.0.1.1", "127.0.0.2"] * 5)


def test_where_every_connection_works_another_is_told_to_come_back(start: Any, sockets: Any) -> None:
    port = start(max_connections=4)
    busy = [sockets(port, f"127.0.0.{10 + index}") for index in range(4)]
    for connection in busy:
        connection.send(WORK)
    time.sleep(0.3)
    for late in (sockets(port), sockets(port)):
        late.send(GOOD)
        status, headers, problem = answer_of(late)
        assert (status, headers["retry-after"]) == (503, "1")
        assert problem["type"].endswith("/unavailable")
    busy[0].shutdown(socket.SHUT_RDWR)
    busy[0].close()
    time.sleep(0.2)
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"http://127.0.0.1:{port}/api/release").status_code == 200
    assert [answer_of(connection)[0] for connection in busy[1:]] == [200] * 3


def test_those_who_are_told_are_few_and_take_no_place(start: Any, sockets: Any) -> None:
    port = start(max_connections=2, head_seconds=30.0)
    busy = [sockets(port, f"127.0.0.{10 + index}") for index in range(2)]
    for connection in busy:
        connection.send(WORK)
    time.sleep(0.3)
    told = [sockets(port) for _ in range(OVERFLOW)]
    unheard = sockets(port)
    assert until_closed(unheard) == b""
    assert all(is_open(connection) for connection in told)
    told[0].send(GOOD)
    assert answer_of(told[0])[0] == 503
    busy[0].close()
    time.sleep(0.2)
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"http://127.0.0.1:{port}/api/release").status_code == 200
    assert answer_of(busy[1])[0] == 200


@pytest.mark.parametrize("count", [1, 2])
def test_who_says_no_more_gets_the_answers_that_are_owed(start: Any, sockets: Any, count: int) -> None:
    connection = sockets(start())
    connection.send(b"GET /api/wait?seconds=0.5 HTTP/1.1\r\nHost: localhost\r\n\r\n" * count)
    connection.shutdown(socket.SHUT_WR)
    started = time.monotonic()
    answer = until_closed(connection)
    assert answer.count(b"HTTP/1.1 200") == answer.count(b'"waited"') == count
    assert time.monotonic() - started < 1.9


def test_who_stops_in_the_middle_of_a_request_gets_none(start: Any, sockets: Any) -> None:
    port = start(head_seconds=30.0, body_seconds=30.0)
    for some in (b"", SLOW_HEAD, SLOW_BODY):
        connection = sockets(port)
        connection.send(some)
        connection.shutdown(socket.SHUT_WR)
        assert until_closed(connection) == b""


def test_a_client_that_goes_away_is_nothing_to_log(
    start: Any, sockets: Any, caplog: pytest.LogCaptureFixture
) -> None:
    port = start()
    connection = sockets(port)
    with capture_logs() as ours:
        connection.send(SLOW_BODY)
        time.sleep(0.2)
        connection.close()
        time.sleep(0.2)
        assert healthy(port)
    assert ours == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_mistake_of_ours_is_logged_once_and_the_connection_goes_on(
    start: Any, sockets: Any, caplog: pytest.LogCaptureFixture
) -> None:
    connection = sockets(start())
    with capture_logs() as ours:
        connection.send(b"GET /api/broken HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status_of(connection) == 500
    connection.send(GOOD)
    assert status_of(connection) == 200
    assert [line["event"] for line in ours] == ["unexpected error"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_stop_answers_what_was_asked_and_waits_for_nobody_else(settings: Settings, sockets: Any) -> None:
    with serving(services_without_database(settings), [probe()]) as port:
        asked, silent, slow, kept = (sockets(port) for _ in range(4))
        asked.send(b"GET /api/wait?seconds=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        slow.send(GOOD[:20])
        kept.send(GOOD)
        assert status_of(kept) == 200
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 3
    assert until_closed(asked).startswith(b"HTTP/1.1 200")
    assert [until_closed(connection) for connection in (silent, slow, kept)] == [b""] * 3


def test_a_stop_gives_up_a_body_that_does_not_come_and_is_not_surprised(
    settings: Settings, sockets: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as ours:
        with serving(services_without_database(settings), [probe()]) as port:
            stalled = sockets(port)
            stalled.send(SLOW_BODY)
            time.sleep(0.2)
            stopped = time.monotonic()
        assert time.monotonic() - stopped < STOP_SECONDS
    assert until_closed(stalled) == b""
    assert ours == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


FORWARDED = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}


@pytest.mark.parametrize(
    ("proxies", "seen"),
    [
        ([], ["127.0.0.1", "http"]),
        (["10.0.0.0/8"], ["127.0.0.1", "http"]),
        (["127.0.0.1"], ["192.0.2.7", "https"]),
        (["10.0.0.0/8", "127.0.0.0/8"], ["192.0.2.7", "https"]),
    ],
)
def test_only_a_trusted_proxy_says_who_calls(start: Any, proxies: list[str], seen: list[str]) -> None:
    port = start(trusted_proxies=proxies)
    with httpx.Client(trust_env=False) as client:
        answer = client.get(f"http://127.0.0.1:{port}/api/who", headers=FORWARDED)
    assert answer.json() == seen
    assert ("strict-transport-security" in answer.headers) is (seen[1] == "https")


@pytest.mark.parametrize(
    ("forwarded", "seen"),
    [
        ("=cmd|' /C calc'!A0", "127.0.0.1"),
        ("a" * 3000, "127.0.0.1"),
        ("unknown", "127.0.0.1"),
        ("192.0.2.7:4711", "192.0.2.7"),
        ("[2001:DB8:0::7]:4711", "2001:db8::7"),
        ("fe80::1%<script>", "fe80::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
    ],
)
def test_what_is_no_address_is_not_taken_for_one(start: Any, forwarded: str, seen: str) -> None:
    port = start(trusted_proxies=["127.0.0.1"])
    with httpx.Client(trust_env=False) as client:
        answer = client.get(f"http://127.0.0.1:{port}/api/who", headers={"X-Forwarded-For": forwarded})
    assert answer.json()[0] == seen


def test_of_what_a_proxy_was_told_only_its_own_word_counts(start: Any) -> None:
    port = start(trusted_proxies=["127.0.0.1"])
    with httpx.Client(trust_env=False) as client:
        forged = {"X-Forwarded-For": "198.51.100.9, 192.0.2.7"}
        answer = client.get(f"http://127.0.0.1:{port}/api/who", headers=forged)
    assert answer.json()[0] == "192.0.2.7"
