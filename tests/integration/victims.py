"""Somebody who owns one of everything that is anybody's, and what would show that it was seen or touched."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Table, func, select

from functions.auth.sessions.service import Session, start_session
from functions.reporting.service import create_report
from functions.upload.parts.schemas import UploadRequest
from functions.upload.parts.service import start
from shared.db import models
from shared.db.base import Base
from shared.db.models import (
    ApiKey,
    Artifact,
    Case,
    IdempotencyKey,
    Identity,
    IncomingObject,
    PasswordReset,
    Report,
    Role,
    StepResult,
    Study,
    StudyFile,
    StudyStatus,
    User,
)
from shared.ids import uuid7
from shared.runtime.services import Services
from shared.runtime.unit import unit_of_work
from shared.security.api_keys import PREFIX, new_key, secret_hash
from shared.security.audit import Actor
from shared.security.policy import DEFAULT_SCOPES
from shared.security.principal import Principal
from shared.security.sealing import name_ring
from tests.dicom_holdings import as_file, put_series
from tests.unit.functions.reporting import makers
from tests.unit.shared.imaging.dicom.builders import make_image

assert models  # importing it registers the tables
NAME = "Zacharias Quibbleworth"
FILENAME = "QUIBBLEWORTH_ZACHARIAS_t1.nii.gz"
PSEUDONYM = "P-victim-7731"
NOBODYS = {"outbox", "inbox", "dead_letters", "audit_log", "audit_heads"}
"""Tables of a tenant that tell of things, and in which a refused request may leave its trace."""
OWNED = [
    table for table in Base.metadata.sorted_tables if "tenant_id" in table.c and table.name not in NOBODYS
]
TOUCHED = {("api_keys", "last_used_at"), ("api_keys", "updated_at"), ("users", "last_login_at")}
"""Columns that say when somebody came, not what they did."""


@dataclass(frozen=True)
class Victim:
    """An account and the ids of what it owns."""

    user: Principal
    email: str
    study_id: UUID
    slide_id: UUID
    case_id: UUID
    series_id: UUID
    task_id: UUID
    file_id: UUID
    report_id: UUID
    api_key_id: UUID
    upload_id: UUID
    object_key: str
    session: Session

    @property
    def tenant_id(self) -> UUID:
        return self.user.tenant_id

    def needles(self) -> set[str]:
        """Texts that only those who may see the victim's things ever meet."""
        studies = (self.study_id, self.slide_id, self.case_id, self.series_id, self.task_id)
        ids = (self.user.user_id, self.api_key_id, self.file_id, self.report_id, self.upload_id, *studies)
        texts = (self.email, self.session.user.username, NAME, *NAME.split(), FILENAME, PSEUDONYM)
        return {*map(str, ids), *texts, self.session.access_token, self.session.refresh_token}


def make_victim(services: Services, tenant_id: UUID) -> Victim:
    """A user of the tenant who owns one of everything."""
    user = _account(services, tenant_id)
    owner = Principal(user.id, tenant_id, Role(user.role))
    case_id = _case(services, owner)
    study_id, file_id, key = _study(services, owner, case_id)
    slide_id = _study(services, owner, case_id, "slide")[0]
    series_id = _series(services, owner, study_id)
    task_id = _results(services, owner, study_id)
    with unit_of_work(services, tenant_id) as unit:
        create_report(unit, task_id)
    upload_id = _upload(services, owner, case_id)
    with services.database.tenant(tenant_id) as session:
        report_id = session.scalars(select(Report.id).where(Report.task_id == task_id)).one()
        api_key_id = add_api_key(session, owner)[0]
        of_user: dict[str, Any] = {"tenant_id": tenant_id, "user_id": user.id}
        expires_at = func.now() + func.make_interval(0, 0, 0, 1)
        session.add(Identity(issuer="https://idp.example", subject=user.id.hex, **of_user))
        session.add(PasswordReset(token_hash=user.id.bytes, expires_at=expires_at, **of_user))
        session.add(_object(study_id, tenant_id))
        hashes = {"key_hash": user.id.bytes, "request_hash": user.id.bytes}
        session.add(IdempotencyKey(status=201, location=f"/api/cases/{case_id}", **hashes, **of_user))
    started = start_session(services, user, Actor(user.id, "password", "127.0.0.1"))
    ids = (study_id, slide_id, case_id, series_id, task_id, file_id, report_id, api_key_id, upload_id)
    return Victim(owner, user.email, *ids, key, started)


def _object(study_id: UUID, tenant_id: UUID) -> IncomingObject:
    facts: dict[str, Any] = {"key_hash": study_id.bytes, "version": "1", "bucket": "incoming", "size": 6}
    return IncomingObject(tenant_id=tenant_id, study_id=study_id, **facts)


def add_api_key(session: Any, owner: Principal, **values: Any) -> tuple[UUID, str]:
    """A key of `owner`: its id and the key itself."""
    key = new_key()
    fields = {"name": "a scanner", "scopes": sorted(DEFAULT_SCOPES), **values}
    row = ApiKey(
        id=uuid7(),
        tenant_id=owner.tenant_id,
        user_id=owner.user_id,
        prefix=key[: len(PREFIX) + 8],
        key_hash=secret_hash(key),
        **fields,
    )
    session.add(row)
    return row.id, key


def _account(services: Services, tenant_id: UUID) -> User:
    user_id = uuid7()
    user = User(
        id=user_id,
        tenant_id=tenant_id,
        email=f"victim-{user_id.hex}@hospital-a.example",
        username=f"victim-{user_id.hex}",
        password_hash=None,
        role=Role.USER,
        full_name="Victoria Victim",
    )
    with services.database.tenant(tenant_id) as session:
        session.add(user)
    return user


def _case(services: Services, owner: Principal) -> UUID:
    case_id = uuid7()
    with services.database.tenant(owner.tenant_id) as session:
        case = Case(id=case_id, tenant_id=owner.tenant_id, owner_id=owner.user_id, patient_id=PSEUDONYM)
        session.add(case)
    return case_id


def _upload(services: Services, owner: Principal, case_id: UUID) -> UUID:
    asked = {"filename": FILENAME, "size": 2 << 20, "kind": "slide", "patient_name": NAME, "case_id": case_id}
    with unit_of_work(services, owner.tenant_id) as unit:
        return start(unit, owner, UploadRequest.model_validate({**asked, "patient_id": PSEUDONYM})).id


def _series(services: Services, owner: Principal, study_id: UUID) -> UUID:
    """UIDs are the ids of study and series; the one image is called as its series is."""
    series_id = uuid7()
    uids = {"SeriesInstanceUID": f"2.25.{series_id.int}", "SOPInstanceUID": f"2.25.{series_id.int}"}
    patient = {"PatientName": "", "PatientID": PSEUDONYM}
    image = make_image(StudyInstanceUID=f"2.25.{study_id.int}", **uids, **patient)
    with services.database.tenant(owner.tenant_id) as session:
        session.add(put_series(services, owner.tenant_id, study_id, [as_file(image)], series_id))
    return series_id


def _study(
    services: Services, owner: Principal, case_id: UUID, kind: str = "brain-mri"
) -> tuple[UUID, UUID, str]:
    study_id, file_id = uuid7(), uuid7()
    role, suffix = ("slide", ".tiff") if kind == "slide" else ("volume", ".nii.gz")
    key = f"{owner.tenant_id}/{study_id}/{role}/{file_id}{suffix}"
    ref = services.storage.put("studies", key, b"voxels", "application/gzip")
    with services.database.tenant(owner.tenant_id) as session:
        study = Study(
            id=study_id,
            tenant_id=owner.tenant_id,
            owner_id=owner.user_id,
            case_id=case_id,
            kind=kind,
            patient_id=PSEUDONYM,
            patient_name_sealed=services.once(name_ring).seal(NAME, study_id),
            status=StudyStatus.COMPLETED,
            digest=study_id.hex,
        )
        session.add(study)
        session.flush()
        session.add(
            StudyFile(
                id=file_id,
                tenant_id=owner.tenant_id,
                study_id=study_id,
                filename_sealed=services.once(name_ring).seal(FILENAME, file_id),
                role=role,
                bucket=ref.bucket,
                key=ref.key,
                size=ref.size,
                sha256=ref.sha256,
            )
        )
    return study_id, file_id, key


def _results(services: Services, owner: Principal, study_id: UUID) -> UUID:
    task_id = uuid7()
    tenant: dict[str, Any] = {"tenant_id": owner.tenant_id}
    key = f"{owner.tenant_id}/{study_id}/results/{task_id}/overlay.png"
    overlay = services.storage.put("studies", key, makers.png(), "image/png")
    with services.database.tenant(owner.tenant_id) as session:
        session.add(makers.task(id=task_id, study_id=study_id, user_id=owner.user_id, **tenant))
        session.flush()
        for position, finding in enumerate(makers.everything()):
            finding.tenant_id, finding.task_id, finding.study_id = owner.tenant_id, task_id, study_id
            finding.position = position
            session.add(finding)
        step = {"step": "detect", "model": "m", "model_version": "1", "result": {}, "seconds": 1.0}
        session.add(StepResult(task_id=task_id, input_hash="0", **step, **tenant))
        facts = {"role": "overlay", "media_type": "image/png", "filename": "overlay.png"}
        session.add(
            Artifact(
                task_id=task_id,
                study_id=study_id,
                **facts,
                **overlay.model_dump(include={"bucket", "key", "version", "size", "sha256"}),
                **tenant,
            )
        )
    return task_id


def belongings(services: Services, victim: Victim) -> dict[str, Any]:
    """Every row of the victim's tenant that names something of the victim's, and every object: as they are now."""
    marks = {victim.user.user_id, victim.study_id, victim.task_id, victim.report_id, victim.api_key_id}
    marks |= {victim.slide_id, victim.case_id, victim.series_id, victim.upload_id}
    rows: dict[str, Any] = {}
    with services.database.tenant(victim.tenant_id) as session:
        for table in OWNED:
            found = [dict(row) for row in session.execute(select(table)).mappings()]
            mine = [
                row for row in found if marks & {value for value in row.values() if isinstance(value, UUID)}
            ]
            rows[str(table.name)] = sorted((_shown(table, row) for row in mine), key=str)
    prefixes = (f"{victim.tenant_id}/{study}/" for study in (victim.study_id, victim.slide_id))
    objects = [ref for prefix in prefixes for ref in services.storage.list_objects("studies", prefix)]
    rows["objects"] = sorted((ref.key, services.storage.read("studies", ref.key)) for ref in objects)
    return rows


def _shown(table: Table, row: Mapping[str, Any]) -> dict[str, str]:
    return {name: repr(value) for name, value in row.items() if (table.name, name) not in TOUCHED}
