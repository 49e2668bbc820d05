"""HTTP/1.1 of one connection, with an end to every wait for its client (CWE-400, slow loris).

uvicorn waits for ever for the head of a request, for the rest of a body that nobody reads any more, and for a client that
does not read its answer. `shared.http.bodies` sees to bodies that are read.
"""

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import Any, cast

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from shared.config import Settings
from shared.errors import BadRequest, HeadTooLarge, HounsfieldError, RequestTimeout, Unavailable
from shared.http.headers import SECURITY_HEADERS
from shared.http.problems import problem_response
from shared.http.room import Room
from shared.http.straight import Straight

LAST_SECONDS = 4.0
"""How long a stop waits for clients whose turn it is; a second less than for requests that are worked on."""
FLUSH_SECONDS = 5.0
"""How long the last words on a connection that is being closed may take to be sent."""
OVERLOADED = problem_response(
    Unavailable(
        "too many requests are being answered; try again shortly",
        headers={**SECURITY_HEADERS, "Retry-After": "1", "Connection": "close"},
    )
)


@dataclass(frozen=True)
class Patience:
    """How long a connection waits for its client, in seconds, and what it takes from it."""

    head_seconds: float
    body_seconds: float
    answer_seconds: float
    head_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> "Patience":
        """What the settings allow."""
        return cls(
            head_seconds=settings.head_seconds,
            body_seconds=settings.body_seconds,
            answer_seconds=settings.answer_seconds,
            head_bytes=settings.max_head_bytes,
        )


class PatientConfig(Config):
    """A server's configuration, with its patience and the room that it has."""

    def __init__(self, app: Any, patience: Patience, room: Room, **more: Any) -> None:
        super().__init__(app, http=PatientProtocol, h11_max_incomplete_event_size=patience.head_bytes, **more)
        self.patience = patience
        self.room = room


class PatientProtocol(H11Protocol):
    """uvicorn's protocol over h11, which cuts off what takes too long and answers in problem objects.

    It is a visitor of the room from before its connection is made.
    """

    def __init__(self, config: PatientConfig, server_state: ServerState, connection: socket.socket) -> None:
        super().__init__(config, server_state, {})
        self._patience = config.patience
        self._room = config.room
        self._connection: socket.socket | None = connection
        self._clients_turn = self.loop.time()
        self._is_half_closed = False
        self._awaited: str | None = None
        self._read_deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self._unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self.straight = Straight(self.conn, self.flow)
        self._connection = None
        self._await_client("head")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._room.leave(self)
        for deadline in (self._read_deadline, self._write_deadline):
            if deadline is not None:
                deadline.cancel()

    def straight_received(self, size: int) -> None:
        """So many bytes of a body came into `straight.buffer()`."""
        self.straight.received(size)
        self.cycle.message_event.set()
        self._clients_turn = self.loop.time()
        if self.straight.is_complete:
            self.handle_events()
            self._watch_reading()

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self.straight.offer(self.cycle)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._is_resting:
            self._clients_turn = self.loop.time()
        self._watch_reading()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # uvicorn's hangs up always
        """Who has said all may still listen: a request that came whole is answered. TLS has no such half."""
        if self._is_resting or self.cycle.more_body or self.scheme == "https":
            return None
        self._is_half_closed = True
        self._clients_turn = self.loop.time()
        return True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._clients_turn = self.loop.time()
        if self._is_half_closed and self._is_resting:
            self.transport.close()
        self._watch_reading()
        if self.transport.is_closing():
            self._watch_writing()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._clients_turn = self.loop.time()
        self._watch_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_deadline is not None:
            self._write_deadline.cancel()

    def shutdown(self) -> None:
        """Stop. A client that does not go on by itself is cut off, before uvicorn would cancel its request."""
        patience = 1.0 if self._is_resting else LAST_SECONDS
        super().shutdown()
        self.loop.call_later(patience, self._give_up)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_soon()

    def send_400_response(self, msg: str) -> None:
        """Answer what h11 could not parse."""
        limit = self._patience.head_bytes
        if self._is_resting and len(self.conn.trailing_data[0]) > limit:
            self._refuse(HeadTooLarge(f"a request's line and headers are at most {limit} bytes"))
        else:
            self._refuse(BadRequest(msg))

    def waits_since(self) -> float | None:
        """Since when it is the client's turn; None while it is ours.

        A client that said all it will may have gone altogether, which nobody knows before the answer is sent.
        """
        return self._clients_turn if self._is_resting or self._is_half_closed or self._owes() else None

    def drop(self) -> None:
        """End it at once, in its TLS handshake too."""
        if self._connection is None:
            self.transport.abort()
        else:
            with contextlib.suppress(OSError):  # it is gone already
                self._connection.shutdown(socket.SHUT_RDWR)

    def turn_away(self) -> None:
        """Answer whatever it asks with 503."""
        self.app = OVERLOADED

    @property
    def is_arriving(self) -> bool:
        """Whether the connection is not made yet."""
        return self._connection is not None

    @property
    def _is_resting(self) -> bool:
        """Whether no request of this connection is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _owes(self) -> bool:
        """Whether the client has to read, or to send more of a body, before we can go on."""
        return self.flow.write_paused or (self.cycle.more_body and not self.cycle.body)

    def _watch_reading(self) -> None:
        """Set a deadline to what the client owes: a head that it has begun, or the rest of a body that was answered
        before its end."""
        if self.transport.is_closing():
            self._await_client(None)
        elif self.conn.their_state is h11.IDLE:
            self._await_client("head" if self.conn.trailing_data[0] else None)
        elif self.conn.their_state is h11.SEND_BODY and self._is_resting:
            self._await_client("rest")
        else:
            self._await_client(None)

    def _await_client(self, awaited: str | None) -> None:
        """Expect something by a deadline. What is expected already keeps its own, however much of it has come."""
        if awaited == self._awaited:
            return
        self._awaited = awaited
        if self._read_deadline is not None:
            self._read_deadline.cancel()
        if awaited is not None:
            seconds = self._patience.head_seconds if awaited == "head" else self._patience.body_seconds
            self._read_deadline = self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        if self._awaited == "head" and self.conn.trailing_data[0]:
            seconds = self._patience.head_seconds
            self._refuse(RequestTimeout(f"a request's line and headers must come within {seconds:g} seconds"))
        else:
            self.transport.close()
            self._abort_soon()

    def _watch_writing(self) -> None:
        """Give the client time to read some of what is waiting to be sent: so much that the kernel, which takes
        megabytes ahead of it, takes more."""
        if self._write_deadline is not None:
            self._write_deadline.cancel()
        self._unsent = self.transport.get_write_buffer_size()
        self._write_deadline = self.loop.call_later(self._patience.answer_seconds, self._check_writing)

    def _check_writing(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent >= self._unsent:
            self.transport.abort()
        elif unsent:
            self._watch_writing()

    def _refuse(self, error: HounsfieldError) -> None:
        """Answer in place of the application, where it has not begun to, and close."""
        answer = problem_response(error)
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            extra = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
            headers = [*self.server_state.default_headers, *answer.raw_headers, *extra]
            start = h11.Response(
                status_code=error.status, headers=[*headers, (b"connection", b"close")], reason=b""
            )
            for event in (start, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
        self._abort_soon()

    def _give_up(self) -> None:
        if self.waits_since() is not None:
            self.transport.abort()

    def _abort_soon(self) -> None:
        self.loop.call_later(FLUSH_SECONDS, self.transport.abort)


class Intake(asyncio.BufferedProtocol):
    """What a connection's transport knows of its protocol: where bytes go. Both kinds of event loop want an object that is
    no `asyncio.Protocol` before they ask for that."""

    def __init__(self, visitor: PatientProtocol, spare: memoryview) -> None:
        """`spare` may be that of all connections: nothing stays in it."""
        self._visitor = visitor
        self._spare = spare
        self._is_straight = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._visitor.connection_made(cast(asyncio.Transport, transport))

    def connection_lost(self, exc: Exception | None) -> None:
        self._visitor.connection_lost(exc)

    def eof_received(self) -> bool | None:
        return self._visitor.eof_received()

    def pause_writing(self) -> None:
        self._visitor.pause_writing()

    def resume_writing(self) -> None:
        self._visitor.resume_writing()

    def get_buffer(self, _sizehint: int) -> memoryview:
        straight = self._visitor.straight.buffer()
        self._is_straight = straight is not None
        return self._spare if straight is None else straight

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_straight:
            self._visitor.straight_received(nbytes)
        else:
            self._visitor.data_received(bytes(self._spare[:nbytes]))
