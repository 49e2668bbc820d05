"""Connections of the DICOM node, bounded: how many, from where, how long they may keep us waiting, how much at once.

pynetdicom by itself takes in anybody, performs TLS handshakes one after another, waits without end for the rest of a
PDU, and reads one of any length into memory.
"""

import select
import socket
import ssl
import threading
import time
from queue import Empty
from socketserver import BaseServer
from typing import Any, Protocol, cast

import structlog
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from functions.dicom.node.messages import Messages

log = structlog.get_logger(__name__)

PDU_BYTES = 128 << 10
"""Longest PDU that peers are told to send; DCMTK's longest."""
MOST_PDU_BYTES = 1 << 20
"""Longest that is read: a request for an association may list 128 contexts with every syntax there is."""
SPARE = 10
"""Connections beyond the associations: those who come too many are told so, while they are few."""
_POLL = getattr(select, "POLLIN", 1)


class Doorkeeper(Protocol):
    """Decides who may connect, and is told when somebody has gone."""

    def may_call_from(self, address: str) -> bool:
        """Whether any peer may call from this address."""

    def messages(self, association: Association) -> Messages:
        """Where the association's messages are put together."""

    def left(self, association: Association) -> None:
        """The association has ended, in whichever way."""


class BoundedSocket(AssociationSocket):
    """A peer's connection, on which a PDU has its length limited and must come whole within `seconds`."""

    def __init__(self, association: Association, connection: socket.socket, seconds: float) -> None:
        super().__init__(association, client_socket=connection)
        connection.settimeout(seconds)
        self._seconds = seconds
        self._poll = select.poll()  # `select` knows no descriptor above 1023
        self._poll.register(connection, _POLL)

    @property
    def ready(self) -> bool:
        """Whether there is something to read."""
        connection = self.socket
        if connection is None or not self._is_connected:
            return False
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        return bool(self._poll.poll(0))

    def recv(self, nr_bytes: int) -> bytearray:
        """`nr_bytes`, or fewer where the peer hung up. Raises OSError for too many, or when they take too long."""
        if nr_bytes > MOST_PDU_BYTES:
            raise OSError(f"a PDU of {nr_bytes} bytes was announced; the limit is {MOST_PDU_BYTES}")
        assert self.socket is not None
        received, view = bytearray(nr_bytes), 0
        deadline = time.monotonic() + self._seconds
        with memoryview(received) as room:
            while view < nr_bytes:
                self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
                read = self.socket.recv_into(room[view:])
                if not read:
                    break
                view += read
        self.socket.settimeout(self._seconds)
        return received[:view]


class Reactor(DULServiceProvider):
    """The state machine of PS3.8 §9.2, in a thread that ends in order when a peer breaks the rules."""

    def run_reactor(self) -> None:
        """What pynetdicom does; an answer that is ready when the association was just aborted is no error of ours."""
        try:
            super().run_reactor()
        except (InvalidEventError, Empty) as error:
            log.info("a DICOM association broke off", error=type(error).__name__)
        finally:
            # Who hung up without asking for an association would be waited for: None ends that.
            cast(Any, self.to_user_queue).put(None)


class Visit(RequestHandler):
    """One connection, from its acceptance to its end, in a thread of its own."""

    server: "NodeServer"

    def handle(self) -> None:
        association = self._create_association()
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": self.client_address})
        association.start()
        association.join()
        association.dul.join(self.server.seconds)
        self.request.close()  # pynetdicom leaves it open where the peer was gone first
        self.server.doorkeeper.left(association)

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dul = Reactor(association)
        association.acse_timeout = association.ae.acse_timeout  # they set timers of `dul`
        association.network_timeout = association.ae.network_timeout
        association.dimse = self.server.doorkeeper.messages(association)
        association.dul.socket = BoundedSocket(association, self.request, self.server.seconds)
        return association


class NodeServer(ThreadedAssociationServer):
    """Takes connections in, as many as may be, from where they may come."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        entity: ApplicationEntity,
        address: tuple[str, int],
        tls: ssl.SSLContext | None,
        handlers: list[evt.EventHandlerType],
        *,
        doorkeeper: Doorkeeper,
        most: int,
        seconds: float,
    ) -> None:
        self.doorkeeper = doorkeeper
        self.seconds = seconds
        self._room = threading.Semaphore(most + SPARE)
        contexts = entity.supported_contexts
        super().__init__(entity, address, entity.ae_title, contexts, tls, handlers, Visit)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        assert self.socket is not None
        return self.socket.accept()  # the handshake is for the visitor's own thread

    def verify_request(self, request: Any, client_address: Any) -> bool:
        if not self.doorkeeper.may_call_from(client_address[0]):
            log.info("a DICOM connection was closed: no peer is there", address=client_address[0])
            return False
        return self._room.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            self._visited(request, client_address)
        finally:
            self._room.release()

    def _visited(self, connection: socket.socket, client_address: Any) -> None:
        connection.settimeout(self.seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.ssl_context is not None:
            try:
                connection = self.ssl_context.wrap_socket(connection, server_side=True)
            except OSError as error:  # ssl.SSLError is one
                log.info("no TLS handshake with a DICOM peer", error=type(error).__name__)
                self.shutdown_request(connection)
                return
        super().process_request_thread(connection, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.error("a DICOM association failed", exc_info=True)

    def shutdown(self) -> None:
        """Take nobody in any more."""
        BaseServer.shutdown(self)
        self.server_close()

    def service_actions(self) -> None:
        """Nothing: pynetdicom collects garbage here, for every few connections."""
