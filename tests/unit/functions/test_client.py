"""What the command line's client makes of servers that are not Hounsfield, or go away."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from functions.client import CallFailed, Client

Answer = tuple[int, str, bytes, int]
Serve = Callable[[Answer], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[HTTPServer] = []

    def start(answer: Answer) -> str:
        status, kind, body, declared = answer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(declared))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


PAGE = b"<html>Welcome</html>"


@pytest.mark.parametrize("body", [PAGE, b"[]", b"\xff", b""])
def test_an_answer_that_is_not_hounsfields_is_told_so(serve: Serve, body: bytes) -> None:
    with pytest.raises(CallFailed, match="not as Hounsfield does"):
        Client(serve((200, "text/html", body, len(body)))).wait("x", lambda _: None, 1)


def test_a_download_that_breaks_off_leaves_no_file(serve: Serve, tmp_path: Path) -> None:
    client = Client(serve((200, "application/pdf", b"half", 8)))
    with pytest.raises(CallFailed, match="no answer from"):
        client.download("/api/reports/1/pdf", tmp_path / "report.pdf")
    assert list(tmp_path.iterdir()) == []


def test_a_download_is_saved_and_a_refused_one_says_why(serve: Serve, tmp_path: Path) -> None:
    body = b"%PDF"
    target = Client(serve((200, "application/pdf", body, 4))).download("/api/x", tmp_path / "report.pdf")
    assert target.read_bytes() == body
    assert list(tmp_path.iterdir()) == [target]
    problem = b'{"detail": "there is no report"}'
    refusing = Client(serve((404, "application/problem+json", problem, len(problem))))
    with pytest.raises(CallFailed, match="there is no report"):
        refusing.download("/api/x", tmp_path / "other.pdf")


def test_an_input_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CallFailed, match=f"cannot read {tmp_path}"):
        Client("http://127.0.0.1:9").submit_mri([tmp_path], {})


def test_neither_token_nor_password_is_repeated() -> None:
    with pytest.raises(CallFailed) as caught:
        Client("http://me:hunter2@127.0.0.1:9", "hunter2\nx").wait("x", lambda _: None, 1)
    assert "hunter2" not in caught.value.detail
    with pytest.raises(CallFailed) as caught:
        Client("http://me:hunter2@127.0.0.1:9", "hunter2").wait("x", lambda _: None, 1)
    assert "hunter2" not in caught.value.detail
