"""The node: starts, lets peers in, answers them, stops."""

import ssl
import threading
import time
from types import TracebackType
from typing import Any, Self, cast

import structlog
from pynetdicom import AE, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext, build_context
from sqlalchemy.exc import SQLAlchemyError

from functions.dicom.classes import IMAGES, SYNTAXES, preferred
from functions.dicom.node.discreet import be_discreet
from functions.dicom.node.find import answer_find
from functions.dicom.node.messages import Messages
from functions.dicom.node.sockets import PDU_BYTES, NodeServer
from functions.dicom.node.storing import answer_store
from functions.dicom.node.visitors import Visitor, find_visitor
from functions.dicom.receiving import finish
from shared.config import Settings
from shared.errors import Conflict, HounsfieldError
from shared.imaging.dicom.instance import EXPLICIT, IMPLICIT
from shared.peers import parse_peers
from shared.runtime import Services
from shared.telemetry.metrics import DICOM_ASSOCIATIONS

log = structlog.get_logger(__name__)

ECHO, FIND = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.2.2.1"
"""SOP classes: Verification; Study Root Query/Retrieve Information Model – FIND."""
UNKNOWN_CALLER = (0x01, 0x01, 0x03)
NO_REASON = (0x02, 0x02, 0x01)
"""Rejections, as PS3.8 §9.3.4 numbers result, source and reason."""
ABORT_SECONDS = 5
"""How long a stop waits until associations that were aborted are noted."""


class Node:
    """A DICOM node; `with Node(services):` answers at `port` until the block ends."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._peers = parse_peers(services.settings.dicom_peers)
        self._visitors: dict[Association, Visitor] = {}
        self._server: NodeServer | None = None

    def __enter__(self) -> Self:
        settings = self._services.settings
        be_discreet()
        host, port = settings.dicom_host or settings.host, settings.dicom_port or 0
        try:
            self._server = self._listen((host, port))
        except OSError as error:
            raise Conflict(f"the DICOM node cannot listen on {host}:{port}: {error.strerror}") from error
        thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="dicom", daemon=True)
        thread.start()
        log.info("DICOM node", port=self.port, peers=len(self._peers), tls=bool(settings.dicom_tls_cert_file))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            self._end_associations(self._services.settings.drain_seconds)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.server_address[1])

    def may_call_from(self, address: str) -> bool:
        """Whether any peer may call from this address."""
        return any(peer.is_at(address) for peer in self._peers.values())

    def messages(self, association: Association) -> Messages:
        """Where the association's messages are put together."""
        settings = self._services.settings
        most = max(settings.max_upload_bytes, settings.max_slide_bytes)
        return Messages(association, settings.work_dir, most, settings.dicom_association_bytes)

    def left(self, association: Association) -> None:
        """What an association sent is complete as far as it goes."""
        messages = association.dimse
        if isinstance(messages, Messages):
            messages.drop()
        visitor = self._visitors.get(association)
        if visitor is None:
            return
        count = sum(visitor.delivery.studies.values())
        log.info("DICOM association ended", peer=visitor.peer.title, instances=count, refused=visitor.refused)
        try:
            finish(self._services, visitor.delivery)
        except (SQLAlchemyError, HounsfieldError) as error:  # its studies close by themselves, somewhat later
            log.warning("an ended association is not noted", error=type(error).__name__)
        finally:
            del self._visitors[association]

    def _listen(self, address: tuple[str, int]) -> NodeServer:
        settings = self._services.settings
        return NodeServer(
            _entity(settings),
            address,
            _tls(settings),
            [
                (evt.EVT_REQUESTED, self._requested),
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_C_FIND, self._find),
            ],
            doorkeeper=self,
            most=settings.dicom_associations,
            seconds=settings.dicom_seconds,
        )

    def _requested(self, event: evt.Event) -> None:
        """Let the peer in if it is known, calls from where it may, and we know in whose name it sends."""
        association = event.assoc
        address = association.requestor.address
        peer = self._peers.get(_calling(association))
        rejection = UNKNOWN_CALLER
        if peer is not None and peer.is_at(address):
            try:
                self._visitors[association] = find_visitor(self._services, peer, address)
                association.acceptor.supported_contexts = _contexts(association)
                DICOM_ASSOCIATIONS.labels("asked").inc()
                return
            except (SQLAlchemyError, HounsfieldError) as error:
                log.warning("a DICOM peer cannot be served now", peer=peer.title, error=type(error).__name__)
                rejection = NO_REASON
        else:
            log.warning("a DICOM association was refused: no such peer", address=address)
        DICOM_ASSOCIATIONS.labels("refused").inc()
        association.acse.send_reject(*rejection)
        association.kill()

    def _store(self, event: evt.Event) -> int:
        visitor = self._visitors[event.assoc]
        try:
            return answer_store(self._services, visitor, event)
        finally:
            event.assoc.dul._idle_timer.restart()  # it is we who took the time

    def _find(self, event: evt.Event) -> Any:
        return answer_find(self._services, self._visitors[event.assoc], event)

    def _end_associations(self, seconds: float) -> None:
        """Give those under way some time, then abort them: their senders send again."""
        deadline = time.monotonic() + seconds
        for association in list(self._visitors):
            while association.is_alive() and association.dimse.message is not None:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.02)
            association.abort()
        deadline = time.monotonic() + ABORT_SECONDS
        while self._visitors and time.monotonic() < deadline:
            time.sleep(0.02)


def _calling(association: Association) -> str:
    """The calling AE title."""
    asked = cast(A_ASSOCIATE, association.requestor.primitive)
    return (asked.calling_ae_title or "").strip()


def _contexts(association: Association) -> list[PresentationContext]:
    """What we take of what the peer asks for, with transfer syntaxes in the order in which we choose among them."""
    offered: dict[str, list[str]] = {}
    asked = cast(A_ASSOCIATE, association.requestor.primitive)
    for context in asked.presentation_context_definition_list:
        offered.setdefault(str(context.abstract_syntax), []).extend(map(str, context.transfer_syntax))
    images = {
        sop_class: preferred(syntaxes) for sop_class, syntaxes in offered.items() if sop_class in IMAGES
    }
    others = [
        context
        for context in association.acceptor.supported_contexts
        if context.abstract_syntax not in images
    ]
    return [*others, *(build_context(sop_class, found) for sop_class, found in images.items() if found)]


def _entity(settings: Settings) -> ApplicationEntity:
    entity = AE(ae_title=settings.dicom_ae_title)
    entity.require_called_aet = True
    entity.maximum_associations = settings.dicom_associations
    entity.maximum_pdu_size = PDU_BYTES
    entity.acse_timeout = entity.dimse_timeout = settings.dicom_seconds
    entity.network_timeout = settings.dicom_idle_seconds
    entity.add_supported_context(ECHO, [EXPLICIT, IMPLICIT])
    entity.add_supported_context(FIND, [EXPLICIT, IMPLICIT])
    for sop_class in sorted(IMAGES):
        entity.add_supported_context(sop_class, list(SYNTAXES))
    return entity


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """What the certificate files say. Raises Conflict where they cannot be used."""
    if settings.dicom_tls_cert_file is None or settings.dicom_tls_key_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.dicom_tls_cert_file, settings.dicom_tls_key_file)
        if settings.dicom_tls_ca_file is not None:
            context.load_verify_locations(settings.dicom_tls_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # ssl.SSLError too
        raise Conflict(f"the certificate files of the DICOM node cannot be used: {error}") from error
    return context
