"""How much a tenant's studies and uploads take, and whether more may come in."""

from uuid import UUID

from sqlalchemy import func, or_, select, text
from sqlalchemy.orm import Session

from shared.config import Settings
from shared.db.models import Artifact, DicomSeries, StudyFile, Tenant, Upload, UploadStatus
from shared.errors import TooLarge
from shared.runtime import UnitOfWork

_LOCK = text("select pg_advisory_xact_lock(hashtextextended('quota:' || :tenant, 0))")


class QuotaExceeded(TooLarge):
    """The tenant has no room for it."""

    slug, title = "quota-exceeded", "No room left"


def require_room(unit: UnitOfWork, size: int) -> None:
    """Raise QuotaExceeded unless `size` bytes more may come in.

    Whoever asks next waits until this transaction ends, so that two cannot both take the last room. Ask late: after
    what takes long, before the commit.
    """
    limit = _limit(unit)
    if limit is not None:
        unit.session.execute(_LOCK, {"tenant": str(unit.tenant_id)})
        _compare(unit.session, size, limit)


def expect_room(unit: UnitOfWork, size: int) -> None:
    """The same for now, without keeping others out: so that nothing is stored in vain. Ask `require_room` later."""
    limit = _limit(unit)
    if limit is not None:
        _compare(unit.session, size, limit)


def used_bytes(session: Session) -> int:
    """What the session's tenant has stored, and what was announced and may still come."""
    unattached = Upload.study_id.is_(None) & (Upload.expires_at > func.now())
    coming = or_(Upload.status == UploadStatus.OPEN, (Upload.status == UploadStatus.FINISHED) & unattached)
    sums = (
        select(func.sum(StudyFile.size)),
        select(func.sum(DicomSeries.size)),
        select(func.sum(Artifact.size)),
        select(func.sum(Upload.size)).where(coming),
    )
    return sum(int(session.scalar(query) or 0) for query in sums)


def _compare(session: Session, size: int, limit: int) -> None:
    used = used_bytes(session)
    if used + size > limit:
        more = f"and this takes {size:,} more" if size else "with this"
        raise QuotaExceeded(
            f"your institution's studies and uploads take {used:,} bytes, {more}; the limit is {limit:,} bytes: "
            "delete what is not needed, or ask an administrator for more",
            used_bytes=used,
            limit_bytes=limit,
        )


def _limit(unit: UnitOfWork) -> int | None:
    return quota_of(unit.session, unit.tenant_id, unit.services.settings)


def quota_of(session: Session, tenant_id: UUID, settings: Settings) -> int | None:
    """The tenant's own limit in bytes, else everybody's; None: no limit."""
    own = session.scalar(select(Tenant.quota_bytes).where(Tenant.id == tenant_id))
    return settings.quota_bytes if own is None else own
