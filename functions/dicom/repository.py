"""The dicom function's SQL for what comes in."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shared.db.models import Study, StudyFile, Tenant
from shared.storage.port import Bucket


class IncomingRepository:
    """Studies that instances join, and the objects of these."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def file(self, id: UUID) -> StudyFile | None:
        """A study's file."""
        return self._session.get(StudyFile, id)

    def settle(self, studies: Sequence[UUID], within: timedelta) -> None:
        """Let those of the studies that are open close `within` from now, if that is sooner than they would."""
        soon = func.least(Study.settle_at, func.now() + within)
        still_open = update(Study).where(Study.id.in_(studies), Study.settle_at.is_not(None))
        self._session.execute(still_open.values(settle_at=soon))

    def known_keys(self, bucket: Bucket, keys: Sequence[str]) -> set[str]:
        """Those of the objects that belong to a study."""
        query = select(StudyFile.key).where(StudyFile.bucket == bucket, StudyFile.key.in_(keys))
        return set(self._session.scalars(query))


def tenant_called(session: Session, slug: str) -> UUID | None:
    """The tenant with this slug; the session is the platform's."""
    return session.scalar(select(Tenant.id).where(Tenant.slug == slug))
