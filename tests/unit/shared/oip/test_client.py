"""The client against a small real HTTP server: what it sends, what it sends again, and which error a caller sees."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket

import numpy as np
import pytest

from shared.config import Settings
from shared.oip.client import OipClient, Value
from shared.oip.errors import ModelFailed, ModelInterrupted, ModelRefused, ModelUnavailable
from shared.oip.wire import HEADER_LENGTH
from shared.storage.port import ObjectRef
from shared.telemetry.trace import new_traceparent, traced

REF = ObjectRef(bucket="studies", key="t/flair.nii.gz", size=1)
OK = {
    "model_name": "m",
    "model_version": "1.0.0",
    "id": "1",
    "outputs": [{"name": "p", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]}],
}
Answer = tuple[int, object, dict[str, str]]


class Server:
    """Gives prepared answers in turn, the last one for ever, and remembers the requests."""

    def __init__(self, answers: list[Answer], delay: float = 0.0) -> None:
        self.requests: list[tuple[str, dict[str, str], dict[str, object]]] = []
        seen = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                described = int(self.headers.get(HEADER_LENGTH, len(body)))
                headers = {k.lower(): v for k, v in self.headers.items()}
                seen.append(
                    (self.path, headers, {**json.loads(body[:described]), "binary": body[described:]})
                )
                self._answer()

            def do_GET(self) -> None:
                seen.append((self.path, {}, {}))
                self._answer()

            def _answer(self) -> None:
                time.sleep(delay)
                status, content, headers = answers[min(len(seen), len(answers)) - 1]
                payload = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(payload))}.items():
                    self.send_header(name, value)
                with suppress(BrokenPipeError):  # a client that gave up
                    self.end_headers()
                    self.wfile.write(payload)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@contextmanager
def serving(*answers: Answer, delay: float = 0.0) -> Iterator[Server]:
    server = Server(list(answers), delay)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_an_inference_sends_tensors_and_claim_checks_and_decodes_the_answer() -> None:
    with serving((200, OK, {})) as server, OipClient(server.url) as client:
        inputs: dict[str, Value] = {"image": np.ones((1, 2), dtype=np.float32), "flair": REF}
        result = client.infer("m", inputs, version="1.0.0", output_prefix="object://studies/t/")
    path, _, body = server.requests[0]
    assert path == "/v2/models/m/versions/1.0.0/infer"
    assert body == {
        "parameters": {"output_prefix": "object://studies/t/"},
        "inputs": [
            {"name": "image", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
            {"name": "flair", "datatype": "BYTES", "shape": [1], "data": ["object://studies/t/flair.nii.gz"]},
        ],
        "binary": np.ones(2, dtype="<f4").tobytes(),
    }
    assert (result.model_name, result.model_version) == ("m", "1.0.0")
    np.testing.assert_array_equal(result.outputs["p"], np.array([[0.25, 0.75]], dtype=np.float32))


def test_without_a_version_the_server_chooses() -> None:
    with serving((200, OK, {})) as server, OipClient(server.url) as client:
        assert client.infer("m", {"flair": REF}).model_version == "1.0.0"
    assert server.requests[0][0] == "/v2/models/m/infer"


def test_the_trace_goes_with_the_call() -> None:
    with (
        serving((200, OK, {})) as server,
        OipClient(server.url) as client,
        traced(new_traceparent()) as trace,
    ):
        client.infer("m", {"flair": REF})
    assert server.requests[0][1]["traceparent"] == trace


def test_each_model_may_have_a_server_of_its_own() -> None:
    with serving((200, OK, {})) as first, serving((200, OK, {})) as second:
        settings = Settings(model_url=first.url, model_urls={"other": second.url + "/"})
        with OipClient.from_settings(settings) as client:
            client.infer("m", {"flair": REF})
            client.infer("other", {"flair": REF})
    assert [request[0] for request in first.requests] == ["/v2/models/m/infer"]
    assert [request[0] for request in second.requests] == ["/v2/models/other/infer"]


def test_a_model_without_a_server_is_unavailable() -> None:
    with OipClient(None) as client, pytest.raises(ModelUnavailable, match="no model server is configured"):
        client.infer("m", {"flair": REF})


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(status: int) -> None:
    with serving((status, {"error": "busy"}, {}), (200, OK, {})) as server, OipClient(server.url) as client:
        client.infer("m", {"flair": REF}, deadline=10)
    assert len(server.requests) == 2


def test_retry_after_is_waited_for() -> None:
    busy = (429, {"error": "busy"}, {"retry-after": "1"})
    with serving(busy, (200, OK, {})) as server, OipClient(server.url) as client:
        started = time.monotonic()
        client.infer("m", {"flair": REF}, deadline=10)
    assert time.monotonic() - started >= 1


def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    busy = (503, {"error": "out for lunch"}, {"retry-after": "3600"})
    with (
        serving(busy) as server,
        OipClient(server.url) as client,
        pytest.raises(ModelUnavailable, match="out for lunch"),
    ):
        client.infer("m", {"flair": REF}, deadline=5)
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_waited_for_until_the_deadline() -> None:
    started = time.monotonic()
    with (
        OipClient(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(ModelUnavailable, match="no connection"),
    ):
        client.infer("m", {"flair": REF}, deadline=0.5)
    assert 0.1 < time.monotonic() - started < 2


def test_a_slow_model_ends_at_the_deadline_and_is_not_asked_twice() -> None:
    with (
        serving((200, OK, {}), delay=1.0) as server,
        OipClient(server.url) as client,
        pytest.raises(ModelInterrupted, match="deadline"),
    ):
        client.infer("m", {"flair": REF}, deadline=0.2)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_refusal_carries_the_servers_reason(status: int) -> None:
    with (
        serving((status, {"error": "no such thing"}, {})) as server,
        OipClient(server.url) as client,
        pytest.raises(ModelRefused, match="m: no such thing"),
    ):
        client.infer("m", {"flair": REF})
    assert len(server.requests) == 1


def test_a_broken_model_is_not_asked_again() -> None:
    with (
        serving((500, {"error": "ValueError : boom"}, {})) as server,
        OipClient(server.url) as client,
        pytest.raises(ModelFailed, match="boom"),
    ):
        client.infer("m", {"flair": REF})
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [502, 504])
def test_a_gateway_without_a_model_behind_it_is_unavailability(status: int) -> None:
    with (
        serving((status, b"<html>", {})) as server,
        OipClient(server.url) as client,
        pytest.raises(ModelUnavailable, match=f"HTTP {status}"),
    ):
        client.infer("m", {"flair": REF})


@pytest.mark.parametrize("content", [b"<html>", b"{}", {"model_name": "m", "outputs": 3}])
def test_an_answer_in_another_language_is_a_failure(content: object) -> None:
    with (
        serving((200, content, {})) as server,
        OipClient(server.url) as client,
        pytest.raises(ModelFailed, match="no Open Inference Protocol"),
    ):
        client.infer("m", {"flair": REF})


def test_another_version_than_the_one_asked_for_is_a_failure() -> None:
    with (
        serving((200, OK, {})) as server,
        OipClient(server.url) as client,
        pytest.raises(ModelFailed, match=r"version 1\.0\.0 answered where 2\.0\.0 was asked for"),
    ):
        client.infer("m", {"flair": REF}, version="2.0.0")


def test_a_volume_comes_back_as_its_reference() -> None:
    output = {"name": "label_map", "datatype": "BYTES", "shape": [1], "data": [REF.model_dump_json()]}
    with serving((200, {**OK, "outputs": [output]}, {})) as server, OipClient(server.url) as client:
        assert client.infer("m", {"flair": REF}).outputs == {"label_map": REF}


def test_readiness_is_false_not_an_error_where_nothing_answers() -> None:
    with OipClient(f"http://127.0.0.1:{free_port()}") as client:
        assert not client.ready()
        assert not client.model_ready("m")
    with OipClient(None) as client:
        assert not client.ready()


def test_ready_means_every_server() -> None:
    with serving((200, {}, {})) as up, serving((503, {}, {})) as down:
        with OipClient(up.url) as client:
            assert client.ready()
        with OipClient(up.url, {"m": down.url}) as client:
            assert not client.ready()
