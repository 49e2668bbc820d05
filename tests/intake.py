"""Studies sent past HTTP: stored as received, announced, and taken in by the real function over the real bus."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from functions import ingest
from shared.db.models import DicomSeries, FileRole, Study, StudyFile
from shared.events.types import Kind
from shared.intake import NOBODY, Patient, announce, new_study, received_file
from shared.runtime import Services
from shared.runtime.postgres_bus import PostgresBus
from shared.runtime.unit import unit_of_work
from shared.security.principal import Principal
from tests.builders import make_tenant, make_user


@dataclass(frozen=True)
class Sent:
    """One file: its path, what its sender calls it, which sequence the sender says that it is."""

    path: Path
    name: str
    modality: str | None = None
    declared_sha256: str | None = None


class Intake:
    """One user's studies on their way in."""

    def __init__(self, services: Services, user: Principal | None = None) -> None:
        self.services = services
        self.user = user or make_user(services.database, make_tenant(services.database))

    @property
    def tenant_id(self) -> UUID:
        return self.user.tenant_id

    def send(
        self,
        *files: Path | Sent,
        kind: Kind | None = None,
        patient: Patient = NOBODY,
        duplicate: bool = False,
    ) -> UUID:
        """Store the files as received and announce the study."""
        with unit_of_work(self.services, self.tenant_id) as unit:
            study = new_study(unit, self.user.user_id, kind, patient)
            study.duplicate = duplicate
            for number, file in enumerate(files):
                sent = file if isinstance(file, Sent) else Sent(file, file.name)
                with sent.path.open("rb") as stream:
                    ref = unit.storage.put(
                        "incoming", f"uploads/{unit.tenant_id}/{study.id}/{number}", stream
                    )
                row = received_file(
                    unit, study.id, ref.model_copy(update={"sha256": None}), sent.name, sent.modality
                )
                row.details = {"declared_sha256": sent.declared_sha256} if sent.declared_sha256 else {}
                study.files.append(row)
            unit.session.add(study)
            announce(unit, study)
            return study.id

    def study(self, id: UUID) -> Study:
        """The study as it stands, with its files."""
        with self.services.database.tenant(self.tenant_id) as session:
            query = select(Study).where(Study.id == id).options(selectinload(Study.files))
            study = session.scalars(query).one()
            session.expunge_all()
            return study

    def series(self, id: UUID) -> Sequence[DicomSeries]:
        """Its DICOM series, by number, with their instances."""
        with self.services.database.tenant(self.tenant_id) as session:
            query = select(DicomSeries).where(DicomSeries.study_id == id).order_by(DicomSeries.number)
            found = session.scalars(query.options(selectinload(DicomSeries.instances))).all()
            session.expunge_all()
            return found

    def settled(self, id: UUID, seconds: float = 60) -> Study:
        """The study once ingest has decided, and what was received is gone, unless it is held."""
        deadline = time.monotonic() + seconds
        while True:
            study = self.study(id)
            if study.step == "held":
                return study
            if study.status != "receiving" and not of_role(study, FileRole.RECEIVED):
                return study
            if study.message and study.status == "receiving":
                raise AssertionError(f"ingest gave up: {study.message}")
            assert time.monotonic() < deadline, f"{study.status} at {study.step}"
            time.sleep(0.02)

    def taken(self, *files: Path | Sent, kind: Kind | None = None, **fields: object) -> Study:
        """Send, and wait until ingest has decided."""
        return self.settled(self.send(*files, kind=kind, **fields))  # type: ignore[arg-type]

    def objects(self, id: UUID) -> list[str]:
        """Keys of what is stored of a study, without what comes before its id."""
        prefix = f"{self.tenant_id}/{id}/"
        return [ref.key.removeprefix(prefix) for ref in self.services.storage.list_objects("studies", prefix)]

    def incoming(self) -> list[str]:
        """Keys of everything that was received and is still there."""
        return [ref.key for ref in self.services.storage.list_objects("incoming")]


@contextmanager
def ingesting(services: Services) -> Iterator[None]:
    """The function ingest works while the block runs."""
    consumer = PostgresBus(services.database).consumer(ingest.function, services)
    consumer.start()
    try:
        yield
    finally:
        consumer.stop(30)


def of_role(study: Study, role: FileRole) -> list[StudyFile]:
    """The study's files of a role."""
    return [file for file in study.files if file.role == role]
