"""SQL of what is changed of studies."""

from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from shared.db.models import Case, FileRole, IdempotencyKey, IncomingObject, Study, Upload
from shared.incoming import BUCKET
from shared.security.policy import Action, Reach
from shared.security.principal import Principal

LOCATIONS = ("studies", "scans", "slides")
"""Under what routes answer that they made a study."""


def case_for(session: Session, caller: Principal, id: UUID) -> Case | None:
    """The case, if the caller may put something into it; it stays as it is until the transaction ends."""
    query = select(Case).where(Case.id == id)
    if caller.reach(Action.STUDIES_WRITE) is not Reach.TENANT:
        query = query.where(Case.owner_id == caller.user_id)
    return session.scalar(query.with_for_update(read=True))


def received(study: Study) -> list[str]:
    """Keys of what still lies in the bucket `incoming`, where the study's sender put it."""
    return [file.key for file in study.files if file.role == FileRole.RECEIVED and file.bucket == BUCKET]


def taken(session: Session, study_id: UUID) -> dict[bytes, set[str]]:
    """Of which versions of which of the drop-box's objects, by hash of key, the study was made."""
    versions: dict[bytes, set[str]] = {}
    query = select(IncomingObject.key_hash, IncomingObject.version)
    for hash_, version in session.execute(query.where(IncomingObject.study_id == study_id)):
        versions.setdefault(hash_, set()).add(version)
    return versions


def delete_study(session: Session, study_id: UUID) -> None:
    """Delete a study and all that hangs on it: files, series, tasks, results and reports by foreign keys, the uploads
    that it came by, which hold names of their own, and what a repeated request for it would be answered.

    What tells that an object of the bucket was taken up stays, so that a late notice does not bring the study back.
    """
    session.execute(delete(Upload).where(Upload.study_id == study_id))
    told = [f"/api/{noun}/{study_id}" for noun in LOCATIONS]
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.location.in_(told)))
    session.execute(delete(Study).where(Study.id == study_id))
