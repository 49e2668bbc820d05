"""What knowing who asks costs: a request's time beside that of the same route without an account.

    python -m benchmarks.auth [--requests N]

One real server (a process of its own, HTTP/1.1 with keep-alive, no TLS), two routes with the same body: one is public,
one asks for the caller. Requests alternate between the routes, so that the machine's noise falls on both alike; medians
are compared, for an access token, for a browser's cookies with their CSRF token (POST), and for an API key. The aim is
less than 1 ms for the first two; a key is looked up in the database each time.

Then it counts the database queries of as many requests with a token on the route that needs none itself. The aim is 0.
(The list of sessions that were ended is read apart from requests, by a thread of each process; here that thread rests.)
"""

import argparse
import http.client
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends
from sqlalchemy import Engine, event

from functions import auth
from functions.auth.sessions.service import start_session
from shared.config import Settings
from shared.db.embedded import EmbeddedPostgres
from shared.db.migrations import upgrade
from shared.db.models import User
from shared.db.session import Database
from shared.http.access import may, public
from shared.http.app import create_api, harden
from shared.http.cookies import csrf_tokens
from shared.runtime.function import Function
from shared.runtime.services import Services
from shared.security.audit import Actor
from shared.security.policy import Action
from shared.telemetry.logs import configure_logs
from tests.builders import make_tenant, make_user
from tests.integration.product import make_services, served
from tests.integration.victims import add_api_key

AIM_MS = 1.0
BODY = b'{"status":"ok"}'
Headers = Mapping[str, str]
router = APIRouter(prefix="/bench")
SOMEBODY = [Depends(may(Action.ACCOUNT_READ))]
queries = 0


@router.get("/anybody")
@router.post("/anybody")
@public("what the other is measured against")
async def anybody() -> dict[str, str]:
    """The route without an account."""
    return {"status": "ok"}


@router.get("/somebody", dependencies=SOMEBODY)
@router.post("/somebody", dependencies=SOMEBODY)
async def somebody() -> dict[str, str]:
    """The same route with one."""
    return {"status": "ok"}


@router.get("/queries")
@public("counts database queries of this process")
async def counted() -> int:
    """How many there were."""
    return queries


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=3000, help="of each kind, on each route")
    options = parser.parse_args()
    with running() as (port, credentials):
        results = {
            kind: compare(port, kind, headers, options.requests) for kind, headers in credentials.items()
        }
        asked = count_queries(port, credentials["token"], options.requests)
    print(f"requests   {options.requests} of each kind on each route, alternating; medians")
    for kind, result in results.items():
        print(
            f"{kind:<10} with {result['with']:.3f} ms, without {result['without']:.3f} ms, "
            f"difference {result['difference']:.3f} ms, ratio {result['ratio']:.2f}"
        )
    print(f"queries    {asked} in {options.requests} requests with a token   (aim: 0)")
    print(f"aim        a difference of less than {AIM_MS} ms for token and cookie")
    print(json.dumps({**results, "queries": asked}))


def compare(port: int, kind: str, headers: Headers, requests: int) -> dict[str, float]:
    """Alternate the two routes over one connection, after a warming tenth."""
    method = "POST" if kind == "cookie" else "GET"
    took: dict[str, list[float]] = {"anybody": [], "somebody": []}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for number in range(-requests // 10, requests):
        order = ("anybody", "somebody") if number % 2 else ("somebody", "anybody")
        for route in order:
            seconds = timed(connection, method, f"/api/bench/{route}", headers if route == "somebody" else {})
            if number >= 0:
                took[route].append(1000 * seconds)
    connection.close()
    with_, without = statistics.median(took["somebody"]), statistics.median(took["anybody"])
    return {"with": with_, "without": without, "difference": with_ - without, "ratio": with_ / without}


def timed(connection: http.client.HTTPConnection, method: str, path: str, headers: Headers) -> float:
    """Seconds from sending to the last byte of the answer."""
    started = time.perf_counter()
    connection.request(method, path, headers=dict(headers))
    response = connection.getresponse()
    body = response.read()
    seconds = time.perf_counter() - started
    if response.status != 200 or body != BODY:
        raise SystemExit(f"{method} {path} answered {response.status}: {body[:200]!r}")
    return seconds


def count_queries(port: int, headers: Headers, requests: int) -> int:
    """Database queries that the server made while it answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    before = _queries(connection)
    for _ in range(requests):
        timed(connection, "GET", "/api/bench/somebody", headers)
    asked = _queries(connection) - before
    connection.close()
    return asked


def _queries(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/api/bench/queries")
    return int(connection.getresponse().read())


@contextmanager
def running() -> Iterator[tuple[int, dict[str, dict[str, str]]]]:
    """A server in a process of its own: its port, and headers for each kind of credential."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="hounsfield-bench-") as name:
        Path(name).chmod(0o755)  # PostgreSQL, started by root, runs as another user
        process = context.Process(target=_serve, args=(name, theirs))
        process.start()
        theirs.close()
        try:
            yield ours.recv()
            ours.send("stop")
        finally:
            ours.close()
            process.join()


def _serve(folder: str, pipe: Connection) -> None:
    configure_logs("WARNING", "console")
    postgres = EmbeddedPostgres(Path(folder) / "postgres")
    upgrade(postgres.url)
    event.listen(Engine, "before_cursor_execute", _count)
    services = make_services(Settings(data_dir=Path(folder) / "data"), Database(postgres.url), 0)
    app = harden(create_api([auth.function, Function("bench", router)], services, {}), services)
    with served(app) as url:
        pipe.send((int(url.split(":")[2].partition("/")[0]), _credentials(services)))
        with suppress(EOFError):  # whoever measures gave up
            pipe.recv()
    services.close()
    postgres.stop()


def _count(*_: Any) -> None:
    global queries
    queries += 1


def _credentials(services: Services) -> dict[str, dict[str, str]]:
    user = make_user(services.database, make_tenant(services.database))
    with services.database.tenant(user.tenant_id) as session:
        row = session.get_one(User, user.user_id)
        _, key = add_api_key(session, user)
    session_ = start_session(services, row, Actor(user.user_id, "password", None))
    csrf = services.once(csrf_tokens).token(session_.id)
    return {
        "token": {"Authorization": f"Bearer {session_.access_token}"},
        "cookie": {
            "Cookie": f"hounsfield_access={session_.access_token}; hounsfield_csrf={csrf}",
            "X-CSRF-Token": csrf,
        },
        "api key": {"X-API-Key": key},
    }


if __name__ == "__main__":
    main()
