import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from shared.http import health
from shared.http.health import health_router

Start = Callable[[Callable[[], object]], TestClient]


@pytest.fixture
def start() -> Iterator[Start]:
    clients: list[TestClient] = []

    def serve(check: Callable[[], object]) -> TestClient:
        api = FastAPI()
        api.include_router(health_router({"database": check}))
        clients.append(TestClient(api).__enter__())
        return clients[-1]

    yield serve
    for client in clients:
        client.__exit__(None, None, None)


def test_a_flood_of_questions_is_one_check_a_second(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[int] = []
    client = start(lambda: checks.append(1))
    assert [client.get("/health").status_code for _ in range(20)] == [200] * 20
    assert len(checks) == 1
    monkeypatch.setattr(health, "KEPT_SECONDS", 0)
    client.get("/readyz")
    assert len(checks) == 2


def test_while_a_check_hangs_others_are_answered_at_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, asked, calls = threading.Event(), threading.Event(), []

    def check() -> None:
        calls.append(1)
        asked.set()
        assert len(calls) == 1 or going.wait(20)

    client = start(check)
    assert client.get("/health").status_code == 200
    monkeypatch.setattr(health, "KEPT_SECONDS", 0)
    asked.clear()
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(client.get, "/health")
        assert asked.wait(20)
        try:
            assert client.get("/health").status_code == 200
            monkeypatch.setattr(health, "STALE_SECONDS", 0)
            answer = client.get("/health")
            assert (answer.status_code, answer.json()["checks"]) == (503, {"database": "unavailable"})
        finally:
            going.set()
        assert hanging.result().status_code == 200


def test_a_dependency_that_is_away_makes_it_unready(start: Start) -> None:
    def check() -> None:
        raise ConnectionError

    assert start(check).get("/readyz").status_code == 503
