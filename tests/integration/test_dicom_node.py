"""The DICOM node, spoken to as a scanner would, and as nobody should."""

import json
import os
import resource
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    MPEG2MPML,
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MRImageStorage,
    generate_uid,
)
from pynetdicom import AE, build_context
from pynetdicom.acse import APPLICATION_CONTEXT_NAME
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    P_DATA,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from sqlalchemy import select, text
from structlog.testing import capture_logs

from functions.dicom.node.node import FIND, Node
from functions.dicom.node.sockets import SPARE
from functions.dicom.receiving import study_key
from functions.dicom.sweep import sweep_instances
from functions.upload.storage_routes import SIGNING
from shared.config import Settings
from shared.db.models import AuditEntry, OutboxEntry, Role, Study, StudyFile
from shared.db.session import Database
from shared.intake import close_settled
from shared.runtime.services import Services
from shared.security.keys import KeyStore
from shared.storage.factory import make_storage
from tests.builders import make_tenant, make_user
from tests.dicom_holdings import cleaned, hold
from tests.e2e.certificates import Authority
from tests.unit.shared.imaging.dicom.builders import make_image

PEERS = {
    "MODALITY": "127.0.0.1",
    "NORTHERN": "127.0.0.0/8;tenant=north",
    "ELSEWHERE": "192.0.2.0/24",
}
MIB = 1 << 20
Start = Callable[..., AbstractContextManager[Node]]


class Hospital:
    """A tenant, and what has come to it."""

    def __init__(self, services: Services, slug: str) -> None:
        self.services = services
        self.tenant_id = make_tenant(services.database, slug)
        self.admin = make_user(services.database, self.tenant_id, Role.ADMIN)

    def studies(self) -> list[Study]:
        with self.services.database.tenant(self.tenant_id) as session:
            return list(session.scalars(select(Study).order_by(Study.id)))

    def files(self) -> list[StudyFile]:
        with self.services.database.tenant(self.tenant_id) as session:
            return list(session.scalars(select(StudyFile).order_by(StudyFile.created_at)))

    def images(self) -> list[Dataset]:
        return [dcmread(BytesIO(self.services.storage.read("incoming", file.key))) for file in self.files()]

    def keys(self) -> set[str]:
        return {ref.key for ref in self.services.storage.list_objects("incoming")}

    def audited(self, action: str) -> list[AuditEntry]:
        with self.services.database.tenant(self.tenant_id) as session:
            return list(session.scalars(select(AuditEntry).where(AuditEntry.action == action)))


@pytest.fixture
def services(settings: Settings, database: Database) -> Services:
    of_node = {"dicom_port": 0, "dicom_peers": PEERS, "drain_seconds": 1, "dicom_seconds": 2.0}
    settings = settings.model_copy(update=of_node)
    storage = make_storage(settings, "http://testserver", KeyStore(settings).secret(SIGNING))
    return Services(settings, database, storage)


@pytest.fixture
def hospital(services: Services) -> Hospital:
    return Hospital(services, "default")


@pytest.fixture
def start(services: Services, hospital: Hospital) -> Start:
    """`with start(setting=value) as node:` runs a node."""

    @contextmanager
    def running(**changed: object) -> Iterator[Node]:
        settings = services.settings.model_copy(update=changed)
        with Node(Services(settings, services.database, services.storage)) as node:
            yield node

    return running


@pytest.fixture
def node(start: Start) -> Iterator[Node]:
    with start() as node:
        yield node


@contextmanager
def associated(
    node: Node | SimpleNamespace,
    *,
    title: str = "MODALITY",
    called: str = "HOUNSFIELD",
    classes: Sequence[str] = (CTImageStorage,),
    syntaxes: Sequence[str] = (ExplicitVRLittleEndian,),
    tls: ssl.SSLContext | None = None,
) -> Iterator[Association]:
    """An association as a scanner asks for it; released at the end."""
    scanner = AE(ae_title=title)
    scanner.acse_timeout = scanner.dimse_timeout = scanner.network_timeout = 20
    contexts = [build_context(sop_class, syntax) for sop_class in classes for syntax in syntaxes]
    tls_args = (tls, "localhost") if tls else None
    association = scanner.associate("127.0.0.1", node.port, contexts, called, tls_args=tls_args)
    connection = association.dul.socket.socket if association.dul.socket else None
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        if connection is not None:
            connection.close()  # pynetdicom leaves it open where the node was gone first


def send(association: Association, image: Dataset) -> int:
    """The status that the node answers with."""
    status: int = association.send_c_store(image).Status
    return status


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# Who may


@pytest.mark.parametrize(
    ("title", "called"), [("NOBODY", "HOUNSFIELD"), ("ELSEWHERE", "HOUNSFIELD"), ("MODALITY", "OTHER")]
)
def test_only_known_titles_from_known_places_get_an_association(node: Node, title: str, called: str) -> None:
    with associated(node, title=title, called=called) as association:
        assert association.is_rejected and not association.is_established


def test_with_no_peers_nobody_gets_in(start: Start) -> None:
    with start(dicom_peers={}) as node, associated(node) as association:
        assert not association.is_established


def test_who_calls_from_where_no_peer_is_is_not_listened_to(start: Start) -> None:
    with (
        start(dicom_peers={"ELSEWHERE": "192.0.2.1"}) as node,
        socket.create_connection(("127.0.0.1", node.port), 5) as stranger,
    ):
        assert stranger.recv(1) == b"", "closed before a word was said"


def test_a_peer_without_an_owner_for_its_images_is_told_to_come_again(node: Node, services: Services) -> None:
    with associated(node, title="NORTHERN") as association:
        assert association.is_rejected, "there is no tenant north"
    north = Hospital(services, "north")
    with associated(node, title="NORTHERN") as association:
        assert send(association, make_image()) == 0
    assert [study.owner_id for study in north.studies()] == [north.admin.user_id]


# What comes in


def test_what_is_answered_with_success_is_there(node: Node, hospital: Hospital) -> None:
    image = make_image()
    with associated(node) as association:
        assert send(association, image) == 0x0000
        [study], [file], [stored] = hospital.studies(), hospital.files(), hospital.images()
    assert stored.SOPInstanceUID == image.SOPInstanceUID and stored.PixelData == image.PixelData
    assert (study.status, study.kind, study.owner_id) == ("receiving", None, hospital.admin.user_id)
    assert study.intake_key == study_key("dicom:MODALITY", image.StudyInstanceUID)
    assert (file.role, file.media_type, file.bucket) == ("received", "application/dicom", "incoming")
    assert file.key.startswith(f"dicom/{hospital.tenant_id}/") and len(file.sha256 or "") == 64


def test_images_of_one_study_become_one_and_those_of_another_another(node: Node, hospital: Hospital) -> None:
    other = UID("1.2.3.5")
    with associated(node) as association:
        for number in range(5):
            assert send(association, make_image(InstanceNumber=number)) == 0
        assert send(association, make_image(StudyInstanceUID=other)) == 0
    assert sorted(len([f for f in hospital.files() if f.study_id == s.id]) for s in hospital.studies()) == [
        1,
        5,
    ]


def test_the_same_image_again_takes_the_place_of_the_first(node: Node, hospital: Hospital) -> None:
    first = make_image()
    again = make_image(SOPInstanceUID=first.SOPInstanceUID, PixelData=bytes(len(first.PixelData)))
    for image in (first, first, again):
        with associated(node) as association:
            assert send(association, image) == 0
    [file], [stored] = hospital.files(), hospital.images()
    assert stored.PixelData == again.PixelData
    assert hospital.keys() == {file.key}, "what was replaced is gone"


def test_a_study_closes_soon_after_the_association_ends_and_late_images_make_another(
    start: Start, services: Services, hospital: Hospital
) -> None:
    with start(settle_seconds=0.2) as node:
        with associated(node) as association:
            assert send(association, make_image()) == 0
        until(lambda: len(hospital.audited("study.receive")) == 1)
        time.sleep(0.3)
        assert close_settled(services) == 1
        with associated(node) as association:
            assert send(association, make_image()) == 0
    with services.database.system() as session:
        announced = session.scalars(select(OutboxEntry.type)).all()
    assert announced == ["hounsfield.upload.completed"]
    assert len(hospital.studies()) == 2


def test_it_settles_within_five_seconds_of_the_end_however_long_others_may_take(
    start: Start, services: Services, hospital: Hospital
) -> None:
    with start(settle_seconds=3600) as node:
        with associated(node) as association:
            assert send(association, make_image()) == 0
        until(lambda: bool(hospital.audited("study.receive")))
    with services.database.tenant(hospital.tenant_id) as session:
        waits = session.scalar(text("select extract(epoch from settle_at - now()) from studies"))
    assert waits is not None and waits < 5.1


SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_plain_images_are_taken_in_every_encoding(node: Node, hospital: Hospital, syntax: UID) -> None:
    image = make_image()
    image.file_meta.TransferSyntaxUID = syntax
    big = syntax == ExplicitVRBigEndian
    if big:
        words = struct.unpack(f"<{len(image.PixelData) // 2}H", image.PixelData)
        image.PixelData = struct.pack(f">{len(words)}H", *words)
    file = BytesIO()
    image.save_as(file, enforce_file_format=True, implicit_vr=syntax.is_implicit_VR, little_endian=not big)
    file.seek(0)
    with associated(node, syntaxes=[syntax]) as association:
        assert send(association, dcmread(file)) == 0
    [stored] = hospital.images()
    assert stored.file_meta.TransferSyntaxUID == syntax and stored.PatientName == "Doe^Jane"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([JPEG2000Lossless, ExplicitVRLittleEndian, ImplicitVRLittleEndian], JPEG2000Lossless),
        ([MPEG2MPML, JPEGLSLossless, ExplicitVRLittleEndian], JPEGLSLossless),
        ([ImplicitVRLittleEndian, ExplicitVRLittleEndian, JPEG2000Lossless], ExplicitVRLittleEndian),
        ([ExplicitVRBigEndian, ImplicitVRLittleEndian], ImplicitVRLittleEndian),
    ],
    ids=["compressed", "compressed, after a film", "plain", "plain, without the best"],
)
def test_of_what_a_peer_offers_for_a_class_its_first_choice_is_taken(
    node: Node, offered: list[UID], chosen: UID
) -> None:
    scanner = AE(ae_title="MODALITY")
    asked = [build_context(CTImageStorage, offered), build_context(MRImageStorage, offered[-1])]
    for _ in range(2):
        association = scanner.associate("127.0.0.1", node.port, asked, "HOUNSFIELD")
        assert [context.transfer_syntax for context in association.accepted_contexts] == [
            [chosen],
            [offered[-1]],
        ]
        association.release()


def test_what_was_received_is_recorded_without_a_name(node: Node, hospital: Hospital) -> None:
    with associated(node) as association:
        for _ in range(3):
            assert send(association, make_image()) == 0
    until(lambda: bool(hospital.audited("study.receive")))
    [made], [received] = hospital.audited("study.create"), hospital.audited("study.receive")
    assert (made.actor_id, made.credential, made.address) == (
        hospital.admin.user_id,
        "dicom:MODALITY",
        "127.0.0.1",
    )
    assert received.details == {"instances": 3}
    assert "Doe" not in f"{made.details} {received.details}"


# What is refused


def test_documents_are_not_negotiated(node: Node) -> None:
    with associated(node, classes=[EncapsulatedPDFStorage, CTImageStorage]) as association:
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
    assert accepted == {CTImageStorage}


def test_an_image_without_pixels_is_none(node: Node, hospital: Hospital) -> None:
    image = make_image(Rows=None, Columns=None, PixelData=None)
    with associated(node) as association:
        assert send(association, image) == 0x0122
    assert hospital.studies() == [] and hospital.keys() == set()


def test_high_throughput_jpeg_2000_is_taken_from_whoever_says_to_which_study_it_belongs(
    node: Node, hospital: Hospital, hounsfield_data: Path
) -> None:
    image = dcmread(hounsfield_data / "dicom_odd" / "pydicom" / "HTJ2K_08_RGB.dcm")
    asked = {"classes": [image.SOPClassUID], "syntaxes": [image.file_meta.TransferSyntaxUID]}
    with capture_logs() as logs, associated(node, **asked) as association:
        assert send(association, image) == 0xC000, "this sample has neither a Study nor a Series Instance UID"
        image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
        assert send(association, image) == 0x0000
    refused = [entry["reason"] for entry in logs if entry["event"] == "a DICOM instance was refused"]
    assert refused == ["dicom-without-uids"]
    [stored] = hospital.images()
    assert stored.file_meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID
    assert stored.PixelData == image.PixelData


def test_a_data_set_of_another_class_than_announced_is_refused(node: Node, hospital: Hospital) -> None:
    with associated(node) as association:
        assert store_raw(association, make_image(SOPClassUID=MRImageStorage), CTImageStorage) == 0xA900
    assert hospital.studies() == []


def test_a_data_set_of_another_instance_than_announced_is_refused(node: Node, hospital: Hospital) -> None:
    with associated(node) as association:
        assert store_raw(association, make_image(), CTImageStorage, instance=generate_uid()) == 0xA900
    assert hospital.studies() == []


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_a_data_set_that_is_cut_off_is_refused_and_the_next_one_taken(
    node: Node, hospital: Hospital, keep: float
) -> None:
    with associated(node) as association:
        assert store_raw(association, make_image(), CTImageStorage, keep=keep) == 0xC000
        assert send(association, make_image()) == 0
    assert len(hospital.files()) == 1


def test_a_header_that_promises_two_gigabytes_is_refused(node: Node, hospital: Hospital) -> None:
    raw = encoded(make_image())
    at = raw.index(b"\xe0\x7f\x10\x00OW") + 8
    lying = raw[:at] + struct.pack("<I", 2 << 30) + raw[at + 4 :]
    with associated(node) as association:
        assert store_raw(association, make_image(), CTImageStorage, raw=lying) == 0xC000
    assert hospital.studies() == []


def test_an_image_over_the_limit_is_refused_without_being_kept(start: Start, hospital: Hospital) -> None:
    with start(max_upload_bytes=MIB, max_slide_bytes=MIB) as node:
        large = make_image(Rows=1024, Columns=1024, PixelData=bytes(2 * MIB))
        with associated(node) as association:
            assert send(association, large) == 0xA700
            assert send(association, make_image()) == 0
    assert len(hospital.files()) == 1


def test_where_the_tenant_has_no_room_left_the_sender_is_told_so(
    node: Node, services: Services, hospital: Hospital
) -> None:
    with services.database.engine.begin() as owner:
        owner.execute(text("update tenants set quota_bytes = 100"))
    with associated(node) as association:
        assert send(association, make_image()) == 0xA700
    assert hospital.studies() == [] and hospital.keys() == set()


def test_where_the_database_is_away_the_sender_is_told_to_come_again(
    node: Node, services: Services, hospital: Hospital
) -> None:
    with associated(node) as association:
        with services.database.engine.begin() as owner:
            owner.execute(text("alter table studies rename to gone"))
        try:
            assert send(association, make_image()) == 0xA700
        finally:
            with services.database.engine.begin() as owner:
                owner.execute(text("alter table gone rename to studies"))
        assert send(association, make_image()) == 0
    assert len(hospital.files()) == 1
    orphans = hospital.keys() - {file.key for file in hospital.files()}
    assert len(orphans) == 1
    assert sweep_instances(services) == 0, "too young"
    assert sweep_instances(services, timedelta(seconds=-1)) == 1
    assert hospital.keys() == {file.key for file in hospital.files()}


def store_raw(
    association: Association,
    image: Dataset,
    sop_class: str,
    *,
    instance: str | None = None,
    keep: float = 1.0,
    raw: bytes | None = None,
) -> int:
    """Sends a C-STORE request whose parts need not fit; the status of the answer."""
    raw = encoded(image) if raw is None else raw
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID = UID(sop_class)
    request.AffectedSOPInstanceUID = UID(instance or image.SOPInstanceUID)
    request.DataSet = BytesIO(raw[: int(len(raw) * keep)] or b"\0")
    context_id = association.accepted_contexts[0].context_id
    assert context_id is not None
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    assert isinstance(answer, C_STORE) and answer.Status is not None
    return answer.Status


def encoded(image: Dataset) -> bytes:
    """The data set alone, Explicit VR Little Endian."""
    file = BytesIO()
    image.save_as(file, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return file.getvalue()


def test_what_goes_wrong_here_is_logged_without_what_was_sent(
    node: Node, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError(f"a mistake of ours, about {arguments}")

    monkeypatch.setattr("functions.dicom.node.storing.check_image", fail)
    with associated(node) as association:
        assert send(association, make_image()) == 0xC211
    said = "".join(capfd.readouterr())
    assert "RuntimeError" in said and "test_dicom_node.py" in said
    assert "Doe" not in said and "a mistake of ours" not in said


# Hostile


def test_a_pdu_of_four_gigabytes_is_not_waited_for(node: Node) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kind in (1, 4):
        with socket.create_connection(("127.0.0.1", node.port), 5) as rude:
            rude.sendall(struct.pack(">BBL", kind, 0, 0xFFFFFFF0))
            with_data = b"\0" * MIB
            for _ in range(64):
                try:
                    rude.sendall(with_data)
                except OSError:
                    break
            assert gone(rude)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024
    assert answers(node)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">BBL", 1, 0, 1000) + b"x" * 10,
        struct.pack(">BBL", 1, 0, 68) + b"\xff" * 68,
        struct.pack(">BBL", 4, 0, 0),
        struct.pack(">BBL", 7, 0, 4) + bytes(4),
        struct.pack(">BBL", 5, 0, 4) + bytes(4),
        b"\x16\x03\x01\x02\x00\x01\x00" + bytes(100),
    ],
    ids=["nothing", "a byte", "HTTP", "half a PDU", "nonsense", "empty data", "abort", "release", "TLS"],
)
def test_who_does_not_ask_for_an_association_is_hung_up_on(node: Node, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", node.port), 10) as rude:
        rude.sendall(said)
        assert gone(rude)
    assert answers(node)


def test_a_peer_that_sends_a_byte_a_second_is_not_waited_for(node: Node) -> None:
    with socket.create_connection(("127.0.0.1", node.port), 10) as slow:
        slow.sendall(struct.pack(">BBL", 1, 0, 10_000))
        started = time.monotonic()
        while time.monotonic() < started + 10:
            try:
                slow.sendall(b"x")
            except OSError:
                break
            time.sleep(0.2)
        assert time.monotonic() - started < 6


def test_an_association_that_rests_is_ended(start: Start) -> None:
    with start(dicom_idle_seconds=0.5) as node, associated(node) as association:
        assert association.is_established
        until(lambda: not association.is_established, 5)


def test_an_association_that_is_dropped_leaves_nothing(node: Node, hospital: Hospital) -> None:
    before = open_files()
    for _ in range(5):
        with raw_association(node) as rude:
            rude.sendall(fragment(b"\x03" + command()))
            for _ in range(10):
                rude.sendall(fragment(b"\x00" + bytes(100_000)))
    until(lambda: open_files() <= before)
    assert hospital.studies() == [] and answers(node)


def test_a_command_without_end_is_cut_off(node: Node) -> None:
    with raw_association(node) as rude:
        for _ in range(100):
            try:
                rude.sendall(fragment(b"\x01" + bytes(100_000)))
            except OSError:
                break
        assert gone(rude)
    assert answers(node)


def test_a_query_without_end_is_cut_off(node: Node) -> None:
    with raw_association(node) as rude:
        rude.sendall(fragment(b"\x03" + command(0x0020)))
        for _ in range(100):
            try:
                rude.sendall(fragment(b"\x00" + bytes(100_000)))
            except OSError:
                break
        assert gone(rude)


def test_requests_without_waiting_for_answers_are_cut_off(node: Node, hospital: Hospital) -> None:
    with raw_association(node) as rude:
        for _ in range(2000):
            try:
                rude.sendall(fragment(b"\x03" + command()) + fragment(b"\x02" + b"no data set"))
            except OSError:
                break
        assert gone(rude)
    assert hospital.studies() == []


def test_an_association_may_send_so_much_and_no_more(start: Start, hospital: Hospital) -> None:
    with start(dicom_association_bytes=MIB) as node, raw_association(node) as rude:
        rude.sendall(fragment(b"\x03" + command()))
        for _ in range(100):
            try:
                rude.sendall(fragment(b"\x00" + bytes(100_000)))
            except OSError:
                break
        assert gone(rude)
    assert hospital.studies() == []


def test_a_flood_of_connections_keeps_nobody_out_for_long(start: Start, hospital: Hospital) -> None:
    with start(dicom_associations=4, dicom_seconds=60) as node:
        threads = threading.active_count()
        held = []
        for _ in range(10_000):
            connection = socket.create_connection(("127.0.0.1", node.port), 5)
            held.append(connection) if len(held) < 200 else connection.close()
        assert threading.active_count() - threads <= 3 * (4 + SPARE)
        for connection in held:
            connection.close()
        until(lambda: threading.active_count() <= threads)
        assert answers(node)


def test_one_association_too_many_is_told_so(start: Start) -> None:
    with start(dicom_associations=2) as node, associated(node), associated(node), associated(node) as third:
        assert third.is_rejected


# Questions


def ask(node: Node, **wanted: str) -> list[Dataset]:
    """What C-FIND finds."""
    query = Dataset()
    for keyword, value in wanted.items():
        setattr(query, keyword, value)
    with associated(node, classes=[FIND]) as association:
        *found, (last, _) = association.send_c_find(query, FIND)
    assert last.Status == 0x0000 and {status.Status for status, _ in found} <= {0xFF00}
    return [identifier for _, identifier in found if identifier is not None]


def test_what_is_held_is_found_at_every_level(node: Node, services: Services, hospital: Hospital) -> None:
    images = [make_image(StudyDate="20250314", InstanceNumber=number) for number in (1, 2, 3)]
    study_id = hold(services, hospital.admin, images)
    [study] = ask(
        node,
        QueryRetrieveLevel="STUDY",
        StudyInstanceUID="",
        NumberOfStudyRelatedInstances="",
        PatientName="*",
    )
    assert study.StudyInstanceUID == cleaned(hospital.tenant_id, images[0]).StudyInstanceUID
    assert (study.NumberOfStudyRelatedInstances, study.QueryRetrieveLevel) == (3, "STUDY")
    [series] = ask(
        node,
        QueryRetrieveLevel="SERIES",
        StudyInstanceUID=study.StudyInstanceUID,
        Modality="CT",
        SeriesInstanceUID="",
        PatientID="",
    )
    assert series.PatientID == f"PAT-{study_id.hex[-8:]}"
    found = ask(
        node,
        QueryRetrieveLevel="IMAGE",
        SeriesInstanceUID=series.SeriesInstanceUID,
        SOPInstanceUID="",
        InstanceNumber="",
    )
    assert [one.InstanceNumber for one in found] == [1, 2, 3]
    assert ask(node, QueryRetrieveLevel="STUDY", Modality="MR", StudyInstanceUID="") == []
    assert ask(node, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3.4") == [], "the UID it was sent with"
    assert len(hospital.audited("study.list")) >= 5


def test_a_peer_of_another_tenant_finds_its_own_only(
    node: Node, services: Services, hospital: Hospital
) -> None:
    hold(services, hospital.admin, [make_image()])
    Hospital(services, "north")
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", ""
    with associated(node, title="NORTHERN", classes=[FIND]) as association:
        assert [status.Status for status, _ in association.send_c_find(query, FIND)] == [0x0000]


@pytest.mark.parametrize(
    "wanted",
    [{"QueryRetrieveLevel": "PATIENT"}, {}, {"QueryRetrieveLevel": "STUDY", "SeriesNumber": "2147483649"}],
    ids=str,
)
def test_a_query_that_makes_no_sense_is_refused(node: Node, wanted: dict[str, str]) -> None:
    query = Dataset()
    query.StudyInstanceUID = ""
    for keyword, value in wanted.items():
        setattr(query, keyword, value)
    with associated(node, classes=[FIND]) as association:
        [(status, _)] = association.send_c_find(query, FIND)
    assert status.Status in (0xA900, 0xC000)


# TLS


def test_over_tls_only_who_shows_a_certificate_of_ours_gets_in(start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("localhost")
    files = {"dicom_tls_cert_file": certificate, "dicom_tls_key_file": key}
    with start(**files, dicom_tls_ca_file=authority.file) as node:
        bare = authority.trusted()
        with associated(node, tls=bare) as association:
            assert not association.is_established
        known = authority.trusted()
        known.load_cert_chain(certificate, key)
        with associated(node, tls=known) as association:
            assert send(association, make_image()) == 0
        with associated(node) as association:
            assert not association.is_established, "not without TLS"


def test_a_handshake_that_never_comes_keeps_nobody_waiting(start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("localhost")
    with (
        start(dicom_tls_cert_file=certificate, dicom_tls_key_file=key) as node,
        socket.create_connection(("127.0.0.1", node.port), 5) as silent,
    ):
        started = time.monotonic()
        with associated(node, tls=authority.trusted()) as association:
            assert association.is_established and time.monotonic() - started < 1.5
        assert gone(silent)


@contextmanager
def raw_association(node: Node) -> Iterator[socket.socket]:
    """A connection with an association on it for CT and queries, and nobody who keeps the rules."""
    asked = A_ASSOCIATE()
    asked.application_context_name = APPLICATION_CONTEXT_NAME
    asked.calling_ae_title, asked.called_ae_title = "MODALITY", "HOUNSFIELD"
    contexts = [build_context(CTImageStorage, ExplicitVRLittleEndian), build_context(FIND)]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    asked.presentation_context_definition_list = contexts
    longest = MaximumLengthNotification()
    longest.maximum_length_received = 16384
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID("1.2.3.4.5")
    asked.user_information = [longest, implementation]
    with socket.create_connection(("127.0.0.1", node.port), 10) as connection:
        connection.sendall(A_ASSOCIATE_RQ(asked).encode())
        assert connection.recv(1) == b"\x02", "accepted"
        connection.recv(65536)
        yield connection


def fragment(value: bytes) -> bytes:
    data = P_DATA()
    data.presentation_data_value_list.append((1, value))
    return P_DATA_TF(data).encode()


def command(field: int = 0x0001) -> bytes:
    """A C-STORE or C-FIND request, whose data set follows."""
    said = Dataset()
    said.AffectedSOPClassUID = CTImageStorage
    said.CommandField, said.MessageID, said.Priority, said.CommandDataSetType = field, 1, 2, 1
    if field == 0x0001:
        said.AffectedSOPInstanceUID = "1.2.3"
    raw = encode(said, True, True)
    assert raw is not None
    return struct.pack("<HHII", 0, 0, 4, len(raw)) + raw


def gone(connection: socket.socket) -> bool:
    """Whether the other side hangs up within the connection's timeout."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def answers(node: Node) -> bool:
    """Whether somebody who behaves is served."""
    with associated(node, classes=["1.2.840.10008.1.1"]) as association:
        return bool(association.is_established and association.send_c_echo().Status == 0)


# Alone


def test_hounsfield_dicom_runs_the_node_alone(
    database_url: str, hospital: Hospital, services: Services
) -> None:
    environment = {
        **os.environ,
        "HOUNSFIELD_DATABASE_URL": database_url.replace("postgresql+psycopg2", "postgresql"),
        "HOUNSFIELD_DATA_DIR": str(services.settings.data_dir),
        "HOUNSFIELD_DICOM_PEERS": json.dumps(PEERS),
    }
    command = [sys.executable, "-c", "from functions.cli import main; main()", "dicom", "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        node = SimpleNamespace(port=int(said.rpartition(" ")[2]))
        try:
            with associated(node) as association:
                assert send(association, make_image()) == 0
        finally:
            process.terminate()
        assert process.wait(30) == 0
    assert len(hospital.files()) == 1
    until(lambda: len(hospital.audited("study.receive")) == 1)
