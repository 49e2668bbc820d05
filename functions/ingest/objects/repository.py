"""The SQL of taking up objects of the drop-box."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.orm import Session

from shared.db.models import FileRole, Study, StudyFile
from shared.db.models.intake import IncomingObject
from shared.incoming import BUCKET, IS_SPENT

SEEN_AGAIN = timedelta(days=1)
"""How old the note must be that an object is still there before it is renewed."""
KEPT = timedelta(days=7)
"""How long an object is remembered after it was last seen."""


class ObjectsRepository:
    """Objects in the drop-box, and the files of studies that they became."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def waiting(self, id: UUID) -> IncomingObject | None:
        """The object, if it was neither taken up nor left alone yet."""
        return self._session.scalar(_WAITING.where(IncomingObject.id == id))

    def lock_waiting(self, id: UUID) -> IncomingObject | None:
        """The object as it is now, locked, if it was neither taken up nor left alone yet."""
        query = _WAITING.where(IncomingObject.id == id).with_for_update()
        return self._session.scalar(query.execution_options(populate_existing=True))

    def waiting_among(self, versions: Sequence[tuple[bytes, str]]) -> Sequence[IncomingObject]:
        """Those of the objects, named by hash of key and version, locked."""
        named = tuple_(IncomingObject.key_hash, IncomingObject.version).in_(versions)
        return self._session.scalars(
            _WAITING.where(named).order_by(IncomingObject.key_hash).with_for_update()
        ).all()

    def known(self, versions: Sequence[tuple[bytes, str]]) -> set[tuple[bytes, str]]:
        """Those that were recorded before, and are not gone since."""
        columns = (IncomingObject.key_hash, IncomingObject.version)
        query = select(*columns).where(tuple_(*columns).in_(versions), ~IS_SPENT)
        rows = self._session.execute(query)
        return {(row.key_hash, row.version) for row in rows}

    def versions_of(self, study_id: UUID) -> dict[bytes, set[str]]:
        """What the study was made of: versions by hash of key."""
        columns = (IncomingObject.key_hash, IncomingObject.version)
        found: dict[bytes, set[str]] = {}
        for hash_, version in self._session.execute(
            select(*columns).where(IncomingObject.study_id == study_id)
        ):
            found.setdefault(hash_, set()).add(version)
        return found

    def spend(self, study_id: UUID) -> None:
        """Note that nothing is left of what the study was made of."""
        made_of = select(IncomingObject.id).where(IncomingObject.study_id == study_id)
        locked = made_of.order_by(IncomingObject.key_hash).with_for_update()
        self._session.execute(
            update(IncomingObject).where(IncomingObject.id.in_(locked)).values(study_id=None)
        )

    def received(self, study_id: UUID, keys: Sequence[str]) -> dict[str, StudyFile]:
        """Files of the study that were received under these keys."""
        files = select(StudyFile).where(
            StudyFile.study_id == study_id, StudyFile.role == FileRole.RECEIVED, StudyFile.key.in_(keys)
        )
        return {file.key: file for file in self._session.scalars(files)}

    def of_settled(self) -> Sequence[str]:
        """A key of a file of each study that came by the drop-box and has been quiet for long enough."""
        first = select(func.min(StudyFile.key)).join(Study, Study.id == StudyFile.study_id)
        settled = first.where(Study.settle_at <= func.now(), Study.intake_key.startswith("bucket:"))
        received = settled.where(StudyFile.bucket == BUCKET, StudyFile.role == FileRole.RECEIVED)
        return [key for key in self._session.scalars(received.group_by(Study.id)) if key is not None]

    def still_there(self, versions: Sequence[tuple[bytes, str]]) -> None:
        """Note that the objects are in the bucket, so that they are not forgotten."""
        named = tuple_(IncomingObject.key_hash, IncomingObject.version).in_(versions)
        old = IncomingObject.updated_at < func.now() - SEEN_AGAIN
        self._session.execute(update(IncomingObject).where(named, old).values(updated_at=func.now()))

    def forget_gone(self) -> int:
        """Drop rows of objects that were not seen for a week: nobody will tell of them again. Returns how many."""
        gone = delete(IncomingObject).where(IncomingObject.updated_at < func.now() - KEPT)
        return len(self._session.scalars(gone.returning(IncomingObject.id)).all())


_WAITING = select(IncomingObject).where(
    IncomingObject.key.is_not(None), IncomingObject.study_id.is_(None), IncomingObject.ignored.is_(None)
)
