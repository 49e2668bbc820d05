"""Uploads whose time is over: what was received of them is removed."""

from uuid import UUID

import structlog

from functions.upload.parts import repository
from functions.upload.parts.service import drop
from shared.db.models import UploadStatus
from shared.db.tenants import tenant_ids
from shared.runtime import Services
from shared.runtime.unit import unit_of_work

log = structlog.get_logger(__name__)

KEPT_DAYS = 7
"""How long an upload that ended is listed."""


def expire_uploads(services: Services) -> int:
    """Drop uploads that nobody finished in time, and finished ones of which nobody made a study; returns how many.

    Raises Unavailable. An upload that is being finished at this moment is left alone.
    """
    return sum(_expire_of(services, tenant_id) for tenant_id in tenant_ids(services.database))


def _expire_of(services: Services, tenant_id: UUID) -> int:
    expired = 0
    while _expire_one(services, tenant_id):
        expired += 1
    with unit_of_work(services, tenant_id) as unit:
        repository.forget_ended(unit.session, KEPT_DAYS)
    return expired


def _expire_one(services: Services, tenant_id: UUID) -> bool:
    """One transaction for each: a store that is away undoes no more than the one it was away for."""
    with unit_of_work(services, tenant_id) as unit:
        upload = repository.take_expired(unit.session)
        if upload is None:
            return False
        drop(unit, upload)
        upload.status = UploadStatus.EXPIRED
        unit.audit("upload.expire", subject=("upload", upload.id), details={"size": upload.size})
        log.info("an upload expired", upload_id=str(upload.id))
        return True
