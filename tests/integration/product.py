"""The whole product's HTTP in this process: every function, hardened, behind a real server on a loopback port."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from starlette.types import ASGIApp

from functions.host import load_functions
from functions.upload.storage_routes import SIGNING
from shared.config import Settings
from shared.db.session import Database
from shared.http.app import create_api, harden
from shared.runtime.function import Function
from shared.runtime.services import Services
from shared.security.keys import KeyStore
from shared.storage.factory import make_storage
from tests.integration.installation import free_port


def make_services(settings: Settings, database: Database, port: int) -> Services:
    """What a process has."""
    storage = make_storage(settings, f"http://127.0.0.1:{port}", KeyStore(settings).secret(SIGNING))
    return Services(settings, database, storage)


@contextmanager
def running_product(
    settings: Settings, database: Database, *more: Function
) -> Iterator[tuple[Services, httpx.Client]]:
    """Every function, and `more`, with a client of them. The services are closed at the end, the database with them."""
    port = free_port()
    services = make_services(settings, database, port)
    app = harden(create_api([*load_functions(), *more], services, {}), services)
    try:
        with served(app, port) as url, httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            yield services, client
    finally:
        services.close()


@contextmanager
def served(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """The application's URL while the block runs."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port or free_port(), log_config=None, access_log=False, lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="http")
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        assert server.started, "the server did not start"
        yield f"http://127.0.0.1:{config.port}/api/"
    finally:
        server.should_exit = True
        thread.join()
