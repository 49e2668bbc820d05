"""Objects of instances whose rows were never committed, or that were replaced: removed once nobody can be at them."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.orm import Session

from functions.dicom.repository import IncomingRepository
from shared.runtime import Services
from shared.sweep import AGE, sweep_received


def sweep_instances(services: Services, older_than: timedelta = AGE) -> int:
    """Delete what was received by DICOM longer than `older_than` ago and belongs to no study; returns how many.

    Raises Unavailable.
    """
    return sweep_received(services, "dicom", _known, older_than, folders=False)


def _known(session: Session, keys: Sequence[str]) -> set[str]:
    return IncomingRepository(session).known_keys("incoming", keys)
