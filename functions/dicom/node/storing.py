"""C-STORE: the answer to one instance (PS3.4 §B.2.3)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import structlog
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_STORE
from sqlalchemy.exc import SQLAlchemyError

from functions.dicom.node.messages import Spool
from functions.dicom.node.visitors import Visitor
from functions.dicom.receiving import NoSuchClass, check_image, store
from shared.errors import HounsfieldError, Invalid, TooLarge, Unavailable, UnsupportedImage
from shared.quota import QuotaExceeded
from shared.runtime import Services
from shared.telemetry.metrics import DICOM_INSTANCES

log = structlog.get_logger(__name__)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
OTHER_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
NO_SUCH_CLASS = 0x0122


class Refused(Exception):
    """With this status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def answer_store(services: Services, visitor: Visitor, event: evt.Event) -> int:
    """Keep the instance of a C-STORE request; the status to answer with. Success once it is committed."""
    request = cast(C_STORE, event.request)
    spool = request.DataSet
    try:
        with _refusals():
            _store(services, visitor, request)
    except Refused as refused:
        visitor.refused += 1
        DICOM_INSTANCES.labels("dimse", "refused").inc()
        log.info(
            "a DICOM instance was refused",
            peer=visitor.peer.title,
            status=f"{refused.status:04X}",
            reason=str(refused),
        )
        return refused.status
    finally:
        if spool is not None:
            spool.close()
    DICOM_INSTANCES.labels("dimse", "stored").inc()
    return SUCCESS


def _store(services: Services, visitor: Visitor, request: C_STORE) -> None:
    spool = request.DataSet
    if not isinstance(spool, Spool):
        raise Refused(CANNOT_UNDERSTAND, "no data set")
    if spool.refused is not None:
        raise Refused(OUT_OF_RESOURCES, spool.refused)
    file = spool.file()
    header = check_image(spool.path, services)
    if header.sop_class != request.AffectedSOPClassUID or header.sop_uid != request.AffectedSOPInstanceUID:
        raise Refused(OTHER_CLASS, "the request names another class or instance than its data set")
    store(services, visitor.delivery, file, header)


@contextmanager
def _refusals() -> Iterator[None]:
    """What goes wrong, as statuses; of the header's values, none."""
    try:
        yield
    except NoSuchClass as error:
        raise Refused(NO_SUCH_CLASS, error.slug) from error
    except (QuotaExceeded, Unavailable, OSError, SQLAlchemyError) as error:
        raise Refused(OUT_OF_RESOURCES, getattr(error, "slug", type(error).__name__)) from error
    except (Invalid, TooLarge, UnsupportedImage) as error:
        raise Refused(CANNOT_UNDERSTAND, error.slug) from error
    except HounsfieldError as error:
        raise Refused(OUT_OF_RESOURCES, error.slug) from error
