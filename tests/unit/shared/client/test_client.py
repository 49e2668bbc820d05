"""What the client makes of servers that are not Hounsfield, or go away, and how it stays logged in."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from shared.client import AsyncClient, CallFailed, Client, NoAnswer, Patience
from shared.client.api import Api

Answer = tuple[int, str, bytes, int]
Serve = Callable[[Answer], str]
ClientOf = Callable[..., Client]


@pytest.fixture
def client_of() -> Iterator[ClientOf]:
    """`client_of(url, token)`: a client that is closed at the end."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(Client(*arguments))


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[HTTPServer] = []

    def start(answer: Answer) -> str:
        status, kind, body, declared = answer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

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


@pytest.mark.parametrize("body", [PAGE, b"[]", b"\xff", b"", b"{}"])
def test_an_answer_that_is_not_hounsfields_is_told_so(serve: Serve, client_of: ClientOf, body: bytes) -> None:
    with pytest.raises(CallFailed, match="not as Hounsfield does"):
        client_of(serve((200, "text/html", body, len(body)))).wait("x", lambda _: None, 1)


def test_a_download_that_breaks_off_leaves_no_file(serve: Serve, client_of: ClientOf, tmp_path: Path) -> None:
    client = client_of(serve((200, "application/pdf", b"half", 8)))
    with pytest.raises(CallFailed, match="no answer from"):
        client.download("/api/reports/1/pdf", tmp_path / "report.pdf")
    assert list(tmp_path.iterdir()) == []


def test_a_download_is_saved_and_a_refused_one_says_why(
    serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    body = b"%PDF"
    target = client_of(serve((200, "application/pdf", body, 4))).download("/api/x", tmp_path / "report.pdf")
    assert target.read_bytes() == body
    assert list(tmp_path.iterdir()) == [target]
    problem = b'{"detail": "there is no report", "type": "https://hounsfield.dev/problems/not-found"}'
    refusing = client_of(serve((404, "application/problem+json", problem, len(problem))))
    with pytest.raises(CallFailed, match="there is no report") as caught:
        refusing.download("/api/x", tmp_path / "other.pdf")
    assert (caught.value.status, caught.value.type) == (404, "https://hounsfield.dev/problems/not-found")


def test_an_input_that_cannot_be_read_is_named(client_of: ClientOf, tmp_path: Path) -> None:
    client, missing = client_of("http://127.0.0.1:9"), tmp_path / "missing"
    with pytest.raises(CallFailed, match=f"cannot read {missing}"):
        client.submit_mri([missing], {})
    with pytest.raises(CallFailed, match=f"cannot read {missing}"):
        client.submit(missing)


def test_who_never_answered_is_not_waited_for(client_of: ClientOf) -> None:
    started = time.monotonic()
    with pytest.raises(NoAnswer, match=r"no answer from http://127\.0\.0\.1:9") as caught:
        client_of("http://127.0.0.1:9", "token").studies.get("x")
    assert not caught.value.passing
    assert time.monotonic() - started < 5


def test_a_url_without_a_scheme_is_told_so() -> None:
    with pytest.raises(CallFailed, match="http://host:port"):
        Client("localhost:8000")


def test_a_url_may_end_where_its_routes_begin() -> None:
    assert Api("http://127.0.0.1:9/api/", None, None, Patience()).http.base_url.path == "/api/"


def test_neither_token_nor_password_is_repeated(client_of: ClientOf) -> None:
    with pytest.raises(CallFailed) as caught:
        client_of("http://me:hunter2@127.0.0.1:9", "hunter2\nx").wait("x", lambda _: None, 1)
    assert "hunter2" not in caught.value.detail
    with pytest.raises(CallFailed) as caught:
        client_of("http://me:hunter2@127.0.0.1:9", "hunter2é").wait("x", lambda _: None, 1)
    assert "hunter2" not in caught.value.detail
    with pytest.raises(CallFailed) as caught:
        client_of("http://me:hunter2@127.0.0.1:9", "hunter2").wait("x", lambda _: None, 1)
    assert "hunter2" not in caught.value.detail


@dataclass
class FewAnswers:
    """A server that takes one access token at a time; renewing makes the next."""

    url: str
    good: str = "access-1"
    renewals: list[str] = field(default_factory=list)
    seen: list[tuple[str, str, bytes, str | None]] = field(default_factory=list)
    """Path, Authorization header, body, Cookie header of each request."""


@pytest.fixture
def server() -> Iterator[FewAnswers]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(b"")

        def do_POST(self) -> None:
            self.reply(self.rfile.read(int(self.headers["Content-Length"])))

        def reply(self, body: bytes) -> None:
            bearer = self.headers.get("Authorization", "")
            state.seen.append((self.path, bearer, body, self.headers.get("Cookie")))
            if self.path == "/api/auth/login":
                self.answer(200, {"access_token": "access-0", "refresh_token": "refresh-0"})
            elif self.path == "/api/auth/refresh":
                state.renewals.append(json.loads(body)["refresh_token"])
                known = state.renewals[-1] == "refresh-0"
                tokens = {"access_token": "access-1", "refresh_token": "refresh-1"}
                self.answer(200 if known else 401, tokens if known else {"detail": "log in again"})
            elif bearer == f"Bearer {state.good}":
                self.answer(200, {"id": "x", "task": {"state": "FAILURE"}, "status": "rejected"})
            else:
                self.answer(401, {"detail": "the access token has expired"})

        def answer(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Set-Cookie", "hounsfield_access=secret; Path=/")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    state = FewAnswers(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def logged_in(server: FewAnswers, client_of: ClientOf) -> Client:
    client = client_of(server.url)
    client.login("anna", "a long passphrase")
    return client


def test_an_expired_access_token_is_renewed_and_the_files_are_sent_again(
    server: FewAnswers, logged_in: Client, tmp_path: Path
) -> None:
    volume = tmp_path / "flair.nii.gz"
    volume.write_bytes(b"voxels")
    assert logged_in.submit_mri([volume], {}).id == "x"
    paths = [path.removeprefix("/api/") for path, *_ in server.seen]
    assert paths == ["auth/login", "process-mri", "auth/refresh", "process-mri"]
    assert [bearer for _, bearer, *_ in server.seen[1:]] == ["Bearer access-0", "", "Bearer access-1"]
    assert all(b"voxels" in body for path, _, body, _ in server.seen if path.endswith("process-mri"))


def test_a_download_goes_on_with_the_renewed_token(logged_in: Client, tmp_path: Path) -> None:
    target = logged_in.download("/api/reports/1/pdf", tmp_path / "report.pdf")
    assert b"rejected" in target.read_bytes()


def test_a_refresh_token_is_used_once(server: FewAnswers, logged_in: Client) -> None:
    server.good = "nothing"
    for why in ("has expired", "log in again", "has expired"):
        with pytest.raises(CallFailed, match=why):
            logged_in.wait("x", lambda _: None, 1)
    assert server.renewals == ["refresh-0", "refresh-1"]


def test_an_api_key_is_sent_as_it_is_and_never_renewed(server: FewAnswers, client_of: ClientOf) -> None:
    server.good = "hsk_key"
    client_of(server.url, " hsk_key\n").wait("x", lambda _: None, 1)
    with pytest.raises(CallFailed, match="has expired"):
        client_of(server.url, "hsk_other").wait("x", lambda _: None, 1)
    assert server.renewals == []


def test_no_cookie_is_kept(server: FewAnswers, logged_in: Client) -> None:
    logged_in.wait("x", lambda _: None, 1)
    assert {cookie for *_, cookie in server.seen} == {None}


def test_a_log_in_without_tokens_is_told_so(serve: Serve, client_of: ClientOf) -> None:
    client = client_of(serve((200, "application/json", b'{"detail": "welcome"}', 21)))
    with pytest.raises(CallFailed, match="without tokens"):
        client.login("anna", "a long passphrase")


def test_many_calls_at_once_renew_a_session_once(server: FewAnswers) -> None:
    async def ask() -> list[str]:
        async with AsyncClient(server.url) as client:
            await client.login("anna", "a long passphrase")
            return [study.id for study in await asyncio.gather(*(client.studies.get("x") for _ in range(8)))]

    assert asyncio.run(ask()) == ["x"] * 8
    assert server.renewals == ["refresh-0"]


def test_closing_ends_the_session_that_was_begun(server: FewAnswers) -> None:
    with Client(server.url) as client:
        client.login("anna", "a long passphrase")
    assert server.seen[-1][0] == "/api/auth/logout"
    server.seen.clear()
    with Client(server.url, "hsk_key"):
        pass
    assert server.seen == []


def test_an_empty_path_is_not_the_current_folder(client_of: ClientOf) -> None:
    client = client_of("http://127.0.0.1:9", "token")
    for paths in ("", ["x.nii", ""]):
        with pytest.raises(CallFailed, match="a path is empty"):
            client.submit(paths)
