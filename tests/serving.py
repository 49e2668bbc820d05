"""A real HTTP server on this machine, in a thread of the test."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from shared.http.app import create_api, harden
from shared.http.server import make_server
from shared.runtime.function import Function
from shared.runtime.services import Services


@contextmanager
def serving(services: Services, functions: Sequence[Function]) -> Iterator[int]:
    """Serve these functions as an installation does at 127.0.0.1; yields the port. Clients may bind any 127.x.x.x."""
    server = make_server(harden(create_api(functions, services, {}), services), services.settings)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(256)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="http")
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "it did not start"
                time.sleep(0.01)
            port: int = listener.getsockname()[1]
            yield port
        finally:
            server.should_exit = True
            thread.join()
