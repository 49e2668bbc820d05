"""The audit log's SQL."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session

from functions.studies.audit.schemas import Filters
from shared.db.models import AuditEntry, User

BATCH = 1000


def matching(wanted: Filters) -> Select[AuditEntry]:
    """Query of the entries that the filters let through."""
    query = select(AuditEntry)
    for name in ("actor_id", "outcome", "address"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(getattr(AuditEntry, name) == value)
    if wanted.action is not None:
        is_prefix = wanted.action.endswith(".")
        action = AuditEntry.action
        query = query.where(
            action.startswith(wanted.action, autoescape=True) if is_prefix else action == wanted.action
        )
    if wanted.subject_id is not None:
        shown = func.jsonb_path_exists(
            AuditEntry.details, "$.*[*] ? (@ == $id)", func.jsonb_build_object("id", str(wanted.subject_id))
        )
        query = query.where(or_(AuditEntry.subject_id == wanted.subject_id, shown))
    if wanted.patient_id is not None:
        listed = AuditEntry.details.contains({"patients": [wanted.patient_id]})
        query = query.where(or_(AuditEntry.patient_id == wanted.patient_id, listed))
    if wanted.since is not None:
        query = query.where(AuditEntry.at >= wanted.since)
    return query if wanted.until is None else query.where(AuditEntry.at < wanted.until)


def older_than(session: Session, wanted: Filters, before: int | None) -> Sequence[AuditEntry]:
    """The newest entries older than number `before`, a batch of them."""
    query = matching(wanted)
    if before is not None:
        query = query.where(AuditEntry.seq < before)
    return session.scalars(query.order_by(AuditEntry.seq.desc()).limit(BATCH)).all()


def usernames(session: Session, rows: Sequence[AuditEntry]) -> dict[UUID, str]:
    """What the people in these entries are called now; who was removed is not among them."""
    ids = {row.actor_id for row in rows if row.actor_id is not None}
    found = session.execute(select(User.id, User.username).where(User.id.in_(ids), User.deleted_at.is_(None)))
    return {row.id: row.username for row in found}
