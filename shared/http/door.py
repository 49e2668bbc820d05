"""Takes connections in. Each counts from then on: asyncio's own servers tell of nobody before the TLS handshake is done."""

import asyncio
import contextlib
import gc
import socket
from typing import Any, cast

import structlog
from uvicorn import Server
from uvicorn.server import ServerState

from shared.http.protocol import Intake, PatientConfig, PatientProtocol

log = structlog.get_logger(__name__)

READ_BYTES = 1 << 16
"""Most bytes that are read at a time, but for bodies that are received straight."""
PAUSE_SECONDS = 1.0
"""How long nobody is taken in after that failed, most likely for want of file descriptors."""


class PatientServer(Server):
    """uvicorn's server behind doors of our own. It serves the sockets that it is given, and opens none."""

    def __init__(self, config: PatientConfig) -> None:
        super().__init__(config)
        self._patient = config

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        _spare_the_collector()
        await super().startup(sockets=[])
        doors = [Door(listener, self._patient, self.server_state) for listener in sockets or ()]
        self.servers = cast(Any, doors)  # uvicorn closes them and waits for them


def _spare_the_collector() -> None:
    """Keep what is loaded by now out of every later search for garbage: hundreds of thousands of objects that stay, the
    search for which takes a fifth of the time of an upload. Once in a process."""
    if gc.get_freeze_count() == 0:
        gc.collect()
        gc.freeze()


class Door:
    """One listening socket."""

    def __init__(self, listener: socket.socket, config: PatientConfig, state: ServerState) -> None:
        listener.setblocking(False)
        listener.listen(config.backlog)  # whoever opened it cannot know how many will come at once
        self._listener = listener
        self._config = config
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._arriving: dict[asyncio.Task[None], PatientProtocol] = {}
        self._spare = memoryview(bytearray(READ_BYTES))
        self._task = self._loop.create_task(self._keep())

    def close(self) -> None:
        """Let nobody in any more."""
        self._task.cancel()
        for visitor in self._arriving.values():
            visitor.drop()

    async def wait_closed(self) -> None:
        """Return once nobody stands in the door."""
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await asyncio.gather(*self._arriving)

    async def _keep(self) -> None:
        while True:
            try:
                connection, address = await self._loop.sock_accept(self._listener)
            except OSError as error:
                log.warning("no connection can be taken in", error=error.strerror)
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                self._receive(connection, address[0])
                await asyncio.sleep(0)  # those who are in go on, however many come

    def _receive(self, connection: socket.socket, address: str) -> None:
        visitor = PatientProtocol(self._config, self._state, connection)
        if not self._config.room.admit(visitor, address):
            if not self._config.room.refuse(visitor):
                connection.close()
                return
            visitor.turn_away()
        task = self._loop.create_task(self._connect(visitor, connection))
        self._arriving[task] = visitor
        task.add_done_callback(self._arriving.pop)

    async def _connect(self, visitor: PatientProtocol, connection: socket.socket) -> None:
        tls = self._config.ssl
        patience = self._config.patience.head_seconds if tls else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: Intake(visitor, self._spare), connection, ssl=tls, ssl_handshake_timeout=patience
            )
        except OSError:  # no handshake, or none in time, or nobody there any more
            pass
        finally:
            if visitor.is_arriving:
                self._config.room.leave(visitor)
