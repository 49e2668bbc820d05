"""How the S3 adapter tells what went wrong, as far as that needs no real service; see the contract suite."""

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError

from shared.config import Settings, load_settings
from shared.errors import HounsfieldError, TooLarge, Unavailable
from shared.storage.factory import make_client
from shared.storage.port import ObjectNotFound, PartMismatch, UploadNotFound
from shared.storage.s3 import S3Storage
from shared.storage.s3_errors import s3_errors


def settings() -> Settings:
    return load_settings(s3_access_key="key", s3_secret_key="secret")


def store_at(port: int) -> S3Storage:
    return S3Storage(make_client(settings(), f"http://127.0.0.1:{port}"), "test-")


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A TCP server that gives one of the answers to each connection, then hangs up; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def failed(code: str, status: int) -> ClientError:
    """What botocore raises for an error answer."""
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "AnyOperation"
    )


@pytest.mark.parametrize(
    ("code", "status", "outcome"),
    [
        ("NoSuchKey", 404, ObjectNotFound),
        ("404", 404, ObjectNotFound),
        ("NoSuchUpload", 404, UploadNotFound),
        ("InvalidPart", 400, PartMismatch),
        ("InvalidPartOrder", 400, PartMismatch),
        ("EntityTooSmall", 400, PartMismatch),
        ("EntityTooLarge", 400, TooLarge),
        ("NoSuchBucket", 404, Unavailable),
        ("AccessDenied", 403, Unavailable),
        ("SlowDown", 503, Unavailable),
        ("Anything", 500, Unavailable),
    ],
)
def test_each_answer_has_its_outcome(code: str, status: int, outcome: type[HounsfieldError]) -> None:
    with pytest.raises(outcome), s3_errors():
        raise failed(code, status)


def test_of_an_upload_not_found_means_the_upload() -> None:
    with pytest.raises(UploadNotFound), s3_errors(of_upload=True):
        raise failed("NoSuchKey", 404)


def test_an_answer_that_only_a_bug_explains_is_not_dressed_up() -> None:
    with pytest.raises(ClientError, match="MalformedXML"), s3_errors():
        raise failed("MalformedXML", 400)


def test_a_service_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        storage = store_at(taken.getsockname()[1])
        with pytest.raises(Unavailable, match="does not answer"):
            storage.head("studies", "a")
        with pytest.raises(Unavailable):
            storage.check()


def test_a_connection_lost_while_reading_is_unavailable_and_not_a_short_object() -> None:
    head = b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "x"\r\n\r\n'
    with answering(head + b"only this") as port:
        stream = store_at(port).open("studies", "a")
        with stream, pytest.raises(Unavailable):
            stream.read()


def test_without_credentials_the_store_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    storage = S3Storage(make_client(load_settings(), "http://127.0.0.1:1"), "test-")
    with pytest.raises(Unavailable, match="NoCredentials"):
        storage.put("studies", "a", io.BytesIO(b"x"))
