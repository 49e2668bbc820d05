"""Studies on their way in, whichever way they come: by REST, through the bucket, or from a DICOM node.

A study that comes at once is made, given its files, and announced. One that comes piece by piece is open under a key
(`<source>:<what its pieces have in common>`); each piece joins it and puts off its closing, until it is complete by
what the sender says or has been quiet for long enough.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.config import Settings
from shared.db.models import FileRole, Role, Study, StudyFile, StudyStatus, User
from shared.db.tenants import tenant_ids
from shared.errors import NotFound
from shared.events import UploadCompleted
from shared.events.types import Kind
from shared.ids import uuid7
from shared.runtime import Services, UnitOfWork
from shared.runtime.unit import unit_of_work
from shared.security.sealing import name_ring
from shared.storage.port import ObjectRef

MAX_FILENAME = 255
OPENINGS = 5
"""How often a study is opened that others open and close at the same moment."""


@dataclass(frozen=True)
class Patient:
    """What the sender says of the patient and the scan."""

    name: str | None = None
    id: str | None = None
    scan_date: date | None = None


NOBODY = Patient()


def new_study(unit: UnitOfWork, owner_id: UUID, kind: Kind | None, patient: Patient = NOBODY) -> Study:
    """A study that is being received, not yet in the session; without an id of the patient it gets a pseudonym."""
    study_id = uuid7()
    name = storable(patient.name.strip()) if patient.name else ""
    return Study(
        id=study_id,
        tenant_id=unit.tenant_id,
        owner_id=owner_id,
        kind=kind,
        patient_id=patient.id or generate_patient_id(),
        patient_id_source="given" if patient.id else "generated",
        patient_name_sealed=unit.services.once(name_ring).seal(name, study_id) if name else None,
        scan_date=patient.scan_date,
        status=StudyStatus.RECEIVING,
        progress=0,
        step="received",
    )


def received_file(
    unit: UnitOfWork, study_id: UUID, ref: ObjectRef, filename: str, modality: str | None = None
) -> StudyFile:
    """The row of an object that was sent for a study. filename: as sent; kept sealed."""
    file_id = uuid7()
    return StudyFile(
        id=file_id,
        tenant_id=unit.tenant_id,
        study_id=study_id,
        filename_sealed=unit.services.once(name_ring).seal(storable(filename), file_id),
        bucket=ref.bucket,
        key=ref.key,
        size=ref.size,
        sha256=ref.sha256,
        role=FileRole.RECEIVED,
        declared_modality=modality,
    )


def announce(unit: UnitOfWork, study: Study) -> None:
    """All of the study is there: ingest may begin."""
    unit.emit(UploadCompleted(upload_id=study.id, study_id=study.id, kind=study.kind))


def join(unit: UnitOfWork, key: str, settle: timedelta, make: Callable[[], Study]) -> Study:
    """The study that is open under `key`, or the one that `make` gives; it waits for `settle` more from now.

    It stays locked until the transaction ends, so that it is not closed while a piece is being added.
    """
    tries = 0
    while (study := _open(unit.session, key)) is None:
        study, tries = make(), tries + 1
        study.intake_key = key
        study.settle_at = func.now() + settle
        try:
            with unit.session.begin_nested():
                unit.session.add(study)
            break
        except IntegrityError:  # somebody else opened it at this moment, and may have closed it since
            if tries == OPENINGS:
                raise
    study.settle_at = func.now() + settle
    unit.session.flush()
    return study


def open_study(unit: UnitOfWork, key: str) -> Study | None:
    """The study that is open under `key`, locked until the transaction ends."""
    return _open(unit.session, key)


def close(unit: UnitOfWork, study_id: UUID) -> bool:
    """Announce an open study, once; False where it was closed already, or deleted."""
    closing = update(Study).where(Study.id == study_id, Study.settle_at.is_not(None))
    study = unit.session.scalar(
        closing.values(settle_at=None).returning(Study), execution_options={"populate_existing": True}
    )
    if study is None:
        return False
    announce(unit, study)
    return True


def close_settled(services: Services) -> int:
    """Close what has been quiet for long enough; returns how many studies."""
    return sum(_close_settled_of(services, tenant_id) for tenant_id in tenant_ids(services.database))


def _close_settled_of(services: Services, tenant_id: UUID) -> int:
    with unit_of_work(services, tenant_id) as unit:
        settled = select(Study.id).where(Study.settle_at <= func.now()).with_for_update(skip_locked=True)
        return sum(close(unit, study_id) for study_id in unit.session.scalars(settled).all())


def _open(session: Session, key: str) -> Study | None:
    query = select(Study).where(Study.intake_key == key, Study.settle_at.is_not(None)).with_for_update()
    return session.scalar(query, execution_options={"populate_existing": True})


def owner_of_incoming(session: Session, settings: Settings) -> User:
    """Whose studies those are that come without a caller. Raises NotFound where the tenant has nobody for it."""
    active = select(User).where(User.is_active, User.deleted_at.is_(None))
    if settings.incoming_owner:
        named = settings.incoming_owner.lower()
        owner = session.scalar(
            active.where((func.lower(User.email) == named) | (func.lower(User.username) == named))
        )
    else:
        owner = session.scalar(active.where(User.role == Role.ADMIN).order_by(User.id).limit(1))
    if owner is None:
        raise NotFound(
            "nobody owns what comes in without a caller: name an account of this tenant in "
            "HOUNSFIELD_INCOMING_OWNER, or make an administrator"
        )
    return owner


def content_digest(files: Iterable[tuple[str, str | None]]) -> str:
    """One hash for a set of files, given by sha256 and declared modality, whatever their order and names."""
    lines = sorted(f"{sha256} {modality or ''}" for sha256, modality in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def generate_patient_id() -> str:
    """A pseudonym: 40 random bits, readable aloud."""
    alphabet = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
    return "PAT-" + "".join(secrets.choice(alphabet) for _ in range(8))


def storable(filename: str) -> str:
    """The name without control characters, its end where it is too long: that is what tells the sequence."""
    return "".join(c if c.isprintable() else "_" for c in filename)[-MAX_FILENAME:]
