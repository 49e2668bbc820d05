"""SQL of uploads in parts."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import Session

from shared.db.models import Case, Upload, UploadStatus
from shared.security.policy import Action, Reach
from shared.security.principal import Principal

IS_WAITING = (Upload.status == UploadStatus.OPEN) | (
    (Upload.status == UploadStatus.FINISHED) & Upload.study_id.is_(None)
)
"""Its file belongs to no study yet."""


def visible(user: Principal, action: Action = Action.STUDIES_WRITE) -> Select[Upload]:
    """Query of the uploads to which `user` may do `action`."""
    query = select(Upload)
    return query if user.reach(action) is Reach.TENANT else query.where(Upload.owner_id == user.user_id)


def find(session: Session, user: Principal, id: UUID, action: Action = Action.STUDIES_WRITE) -> Upload | None:
    """One of them."""
    return session.scalar(visible(user, action).where(Upload.id == id))


def lock(session: Session, user: Principal, ids: Sequence[UUID]) -> list[Upload]:
    """Those of them, as they are now; nobody else changes them until the transaction ends.

    Their cases first: whoever deletes a case locks that, and then what is meant for it.
    """
    meant_for = visible(user).where(Upload.id.in_(ids)).with_only_columns(Upload.case_id)
    cases = select(Case.id).where(Case.id.in_(meant_for)).order_by(Case.id)
    session.execute(cases.with_for_update(read=True, key_share=True))
    query = visible(user).where(Upload.id.in_(ids)).order_by(Upload.id).with_for_update()
    return list(session.scalars(query, execution_options={"populate_existing": True}))


def take_expired(session: Session) -> Upload | None:
    """One whose time is over and that no study has, locked; None when nobody else left any."""
    query = select(Upload).where(IS_WAITING, Upload.expires_at <= func.now())
    return session.scalar(query.order_by(Upload.id).limit(1).with_for_update(skip_locked=True))


def known_to_store(session: Session, storage_ids: Sequence[str]) -> set[str]:
    """Those of the store's uploads that an open upload of ours is."""
    query = select(Upload.storage_id).where(
        Upload.storage_id.in_(storage_ids), Upload.status == UploadStatus.OPEN
    )
    return set(session.scalars(query))


def forget_ended(session: Session, days: int) -> None:
    """Delete the rows of uploads that ended that long ago."""
    old = func.now() - func.make_interval(0, 0, 0, days)
    session.execute(delete(Upload).where(Upload.status != UploadStatus.OPEN, Upload.updated_at < old))


def is_open(session: Session, upload: Upload) -> bool:
    """Whether parts are still taken, by the database's clock."""
    return upload.status == UploadStatus.OPEN and bool(session.scalar(select(func.now() < upload.expires_at)))
