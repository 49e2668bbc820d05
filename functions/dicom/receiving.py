"""What becomes of one DICOM file that was sent, by C-STORE or STOW-RS: checked, stored, and joined to its study.

The rows are committed before this returns, so that what was acknowledged is not lost; an object whose rows were not
committed is removed by `functions.dicom.sweep`, and its sender, who was told of no success, sends it again.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO
from uuid import UUID

import structlog

from functions.dicom.classes import IMAGES, SYNTAXES
from functions.dicom.repository import IncomingRepository
from shared.db.models import FileRole, Study, StudyFile
from shared.errors import Invalid, TooLarge, Unavailable, UnsupportedImage
from shared.ids import uuid7
from shared.imaging.dicom.headers import read_header
from shared.imaging.dicom.instance import WHOLE_SLIDE, Instance
from shared.intake import join, new_study
from shared.quota import QuotaExceeded, require_room
from shared.runtime import Services, UnitOfWork
from shared.runtime.unit import unit_of_work
from shared.security.audit import Actor
from shared.storage.port import ObjectRef

log = structlog.get_logger(__name__)

PREFIX = "dicom/"
"""Of keys in the bucket incoming: `dicom/<tenant>/<id>`."""
CLOSES_WITHIN = timedelta(seconds=5)
"""How soon a study is taken as complete once its sender has ended the association or request."""
MEDIA_TYPE = "application/dicom"


class NoSuchClass(UnsupportedImage):
    """DICOM, but no image that is taken here."""

    slug, title = "unsupported-sop-class", "No DICOM image"


class NoSuchSyntax(NoSuchClass):
    """An image, encoded as no decoder here reads."""

    slug, title = "unsupported-transfer-syntax", "Transfer syntax not supported"


class WithoutUids(Invalid):
    """An image that can be read, but does not say where it belongs."""

    slug, title = "dicom-without-uids", "DICOM image without UIDs"


@dataclass(frozen=True)
class Sender:
    """Who sends. source: `dicom:<calling AE title>` or `stow:<user id>`; actor: as the audit log names it."""

    tenant_id: UUID
    owner_id: UUID
    source: str
    actor: Actor


@dataclass
class Delivery:
    """What came in one association or request. studies: study → how many instances of it."""

    sender: Sender
    studies: dict[UUID, int] = field(default_factory=dict)


def check_image(path: Path, services: Services) -> Instance:
    """What the header of a received file says, if it is an image that we take.

    Raises NoSuchClass, NoSuchSyntax, WithoutUids, NotDicom, UnsupportedDicom, DamagedDicom, TooLarge.
    """
    header = read_header(path)
    if header.sop_class not in IMAGES or header.pixels is None:
        raise NoSuchClass("This is no DICOM image; send CT, MR, OCT, slide or other still images.")
    if header.transfer_syntax not in SYNTAXES:
        raise NoSuchSyntax(
            "The transfer syntax is none that is read here; send JPEG 2000 or uncompressed images."
        )
    if not (header.sop_uid and header.study_uid and header.series_uid):
        raise WithoutUids(
            "The header lacks a Study, Series or SOP Instance UID, so no study can be made of it."
        )
    limit = largest(services, header.sop_class)
    if header.size > limit:
        raise TooLarge(f"The file is larger than the limit of {limit} bytes.")
    return header


def largest(services: Services, sop_class: str) -> int:
    """Most bytes that an instance of this class may have."""
    settings = services.settings
    return settings.max_slide_bytes if sop_class == WHOLE_SLIDE else settings.max_upload_bytes


def store(services: Services, delivery: Delivery, file: IO[bytes], header: Instance) -> UUID:
    """Keep a checked file as part of its study; returns the study's id.

    The same SOP instance again takes the first one's place while the study is open. Raises Unavailable where the
    disk is full, QuotaExceeded, and what the database raises when it is away.
    """
    sender = delivery.sender
    file.seek(0)
    ref = services.storage.put("incoming", f"{PREFIX}{sender.tenant_id}/{uuid7()}", file, MEDIA_TYPE)
    try:
        with unit_of_work(services, sender.tenant_id, sender.actor) as unit:
            study = _study(unit, sender, header)
            replaced = _keep(unit, study, ref, header)
            require_room(unit, 0)
    except QuotaExceeded:
        _forget(services, ref.key)
        raise
    delivery.studies[study.id] = delivery.studies.get(study.id, 0) + 1
    if replaced is not None:
        _forget(services, replaced)
    return study.id


def finish(services: Services, delivery: Delivery) -> None:
    """The sender is done for now: its studies close soon, and what it sent is recorded."""
    if not delivery.studies:
        return
    sender = delivery.sender
    within = min(CLOSES_WITHIN, timedelta(seconds=services.settings.settle_seconds))
    with unit_of_work(services, sender.tenant_id, sender.actor) as unit:
        IncomingRepository(unit.session).settle(sorted(delivery.studies), within)
        for study_id, count in delivery.studies.items():
            unit.audit("study.receive", subject=("study", study_id), details={"instances": count})


def study_key(source: str, study_uid: str) -> str:
    """The intake key under which a study is open; UIDs may lead to a patient, and are not kept."""
    return f"{source}:{hashlib.sha256(study_uid.encode()).hexdigest()}"


def _study(unit: UnitOfWork, sender: Sender, header: Instance) -> Study:
    made: list[Study] = []

    def make() -> Study:
        made.append(new_study(unit, sender.owner_id, None))
        return made[0]

    settle = timedelta(seconds=unit.services.settings.settle_seconds)
    study = join(unit, study_key(sender.source, header.study_uid), settle, make)
    if made and study is made[0]:
        way = sender.source.partition(":")[0]
        unit.audit(
            "study.create", subject=("study", study.id), patient_id=study.patient_id, details={"by": way}
        )
    return study


def _keep(unit: UnitOfWork, study: Study, ref: ObjectRef, header: Instance) -> str | None:
    """Name the object in the study's row of this instance; returns the key of the object that it replaces."""
    repository = IncomingRepository(unit.session)
    file_id = instance_id(study.id, header.sop_uid)
    known = repository.file(file_id)
    if known is None:
        unit.session.add(_row(unit, study, ref, file_id))
        return None
    replaced = known.key
    known.key, known.size, known.sha256 = ref.key, ref.size, ref.sha256
    return replaced


def _row(unit: UnitOfWork, study: Study, ref: ObjectRef, id: UUID) -> StudyFile:
    return StudyFile(
        id=id,
        tenant_id=unit.tenant_id,
        study_id=study.id,
        filename="instance.dcm",  # nobody's: DICOM sends no names of files
        bucket=ref.bucket,
        key=ref.key,
        size=ref.size,
        sha256=ref.sha256,
        role=FileRole.RECEIVED,
        media_type=MEDIA_TYPE,
    )


def instance_id(study_id: UUID, sop_uid: str) -> UUID:
    """The id of an instance's file within its study (version 8, RFC 9562 §5.8): the same one however often it is sent."""
    digest = hashlib.sha256(study_id.bytes + sop_uid.encode()).digest()
    value = int.from_bytes(digest[:16], "big")
    value = value & ~(0xF << 76) | 0x8 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def _forget(services: Services, key: str) -> None:
    try:
        services.storage.delete("incoming", key)
    except Unavailable:  # the sweep finds it
        log.warning("a replaced object is left to the sweep")
