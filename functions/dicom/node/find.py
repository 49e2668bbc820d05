"""C-FIND, Study Root: what of the de-identified holdings matches (PS3.4 §C.4.1)."""

from collections.abc import Iterator
from typing import Any

import structlog
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pynetdicom import evt
from sqlalchemy.exc import SQLAlchemyError

from functions.dicom.answers import Attributes, answers, note_search
from functions.dicom.criteria import Criteria, Level, is_text, make_criteria
from functions.dicom.holdings import Holdings
from functions.dicom.node.visitors import Visitor
from shared.errors import HounsfieldError
from shared.imaging.dicom.attributes import key_of
from shared.runtime import Services
from shared.runtime.unit import unit_of_work

log = structlog.get_logger(__name__)

PENDING, CANCELLED = 0xFF00, 0xFE00
CANNOT_PROCESS, NO_SUCH_LEVEL, OUT_OF_RESOURCES = 0xC000, 0xA900, 0xA700
LEVELS: dict[str, Level] = {"STUDY": "study", "SERIES": "series", "IMAGE": "instance"}
PAGE = 200
_LEVEL = 0x00080052
Status = tuple[int, Dataset | None]


def answer_find(services: Services, visitor: Visitor, event: evt.Event) -> Iterator[Status]:
    """One pending answer for each match; pynetdicom adds the last one."""
    try:
        wanted: Dataset = event.identifier
        level = LEVELS.get(str(wanted.get("QueryRetrieveLevel", "")).strip())
        if level is None:
            yield NO_SUCH_LEVEL, None
            return
        criteria = make_criteria(level, _values(wanted))
        for match in _matches(services, visitor, criteria):
            if event.is_cancelled:
                yield CANCELLED, None
                return
            yield PENDING, _answer(match, wanted)
    except (AttributeError, LookupError, NotImplementedError, TypeError, ValueError) as error:
        log.info("a DICOM query cannot be read", error=type(error).__name__)
        yield CANNOT_PROCESS, None
    except (HounsfieldError, SQLAlchemyError) as error:
        log.info("a DICOM query was refused", error=type(error).__name__)
        status = OUT_OF_RESOURCES if isinstance(error, SQLAlchemyError) else CANNOT_PROCESS
        yield status, None


def _values(wanted: Dataset) -> Iterator[tuple[int, str]]:
    for element in wanted:
        if element.tag != _LEVEL and element.tag.group != 0x0002 and is_text(int(element.tag)):
            values = element.value if element.VM > 1 else [element.value]
            yield int(element.tag), "\\".join(str(value) for value in values if value is not None)


def _matches(services: Services, visitor: Visitor, criteria: Criteria) -> Iterator[Attributes]:
    """Page by page: no transaction stays open while a peer takes its time."""
    offset = 0
    while True:
        with unit_of_work(services, visitor.owner.tenant_id, visitor.delivery.sender.actor) as unit:
            holdings = Holdings(unit.session, visitor.owner)
            page = answers(holdings, criteria, PAGE, offset)
            note_search(unit, holdings, page)
        yield from page
        offset += PAGE
        if len(page) < PAGE:
            return


def _answer(match: Attributes, wanted: Dataset) -> Dataset:
    """Of what is known, what was asked for; what is not known, empty."""
    asked = {key_of(int(element.tag)): element.VR for element in wanted if element.tag != _LEVEL}
    chosen: dict[str, Any] = {key: match.get(key, {"vr": vr}) for key, vr in asked.items()}
    found = Dataset.from_json(chosen)
    found[Tag(_LEVEL)] = wanted[Tag(_LEVEL)]
    found.SpecificCharacterSet = "ISO_IR 192"
    return found
