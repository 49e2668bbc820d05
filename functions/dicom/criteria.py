"""What a query asks for, in QIDO-RS and C-FIND alike (PS3.4 §C.2.2.2): attributes and the values they must have."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from pydicom.datadict import dictionary_VR, tag_for_keyword

from shared.errors import BadRequest

Level = Literal["study", "series", "instance"]
LEVELS: tuple[Level, ...] = ("study", "series", "instance")
STUDY_DATE, MODALITY, MODALITIES = 0x00080020, 0x00080060, 0x00080061
SOP_CLASS, SOP_UID = 0x00080016, 0x00080018
STUDY_UID, SERIES_UID = 0x0020000D, 0x0020000E
SERIES_NUMBER, INSTANCE_NUMBER = 0x00200011, 0x00200013
_TEXT_VRS = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI", "UT"}
)
_DATES = re.compile(r"(\d{8})?(-)?(\d{8})?")
_COUNTS = range(0x00201200, 0x0020120A)
"""How many studies, series and instances there are of a patient, study or series: nobody is asked for these."""
_MOST_VALUES = 1000


@dataclass(frozen=True)
class Dates:
    """A range, ends included; None is open."""

    first: date | None
    last: date | None


@dataclass(frozen=True)
class Criteria:
    """values: tag → what it must be, never empty; `*` and `?` stand for any text and any character, where allowed."""

    level: Level
    values: Mapping[int, str]

    def uids(self, tag: int) -> list[str]:
        """One or several UIDs."""
        found = [uid.strip() for uid in re.split(r"[,\\]", self.values.get(tag, "")) if uid.strip()]
        if len(found) > _MOST_VALUES:
            raise BadRequest(f"a query names at most {_MOST_VALUES} UIDs")
        return found

    def number(self, tag: int) -> int | None:
        """A number, where one is asked for. Raises BadRequest."""
        value = self.values.get(tag)
        if value is None:
            return None
        if not re.fullmatch(r"[+-]?\d{1,9}", value.strip()):
            raise BadRequest("series and instance numbers are matched by whole numbers")
        return int(value)

    def dates(self, tag: int) -> Dates | None:
        """A day, or a range such as 20260101-20260630, 20260101- or -20260630. Raises BadRequest."""
        value = self.values.get(tag)
        if value is None:
            return None
        found = _DATES.fullmatch(value.strip())
        if found is None or not (found[1] or found[3]) or (found[1] and found[3] and not found[2]):
            raise BadRequest("dates are matched by YYYYMMDD, YYYYMMDD-YYYYMMDD, YYYYMMDD- or -YYYYMMDD")
        first, last = _day(found[1]), _day(found[3])
        return Dates(first, last) if found[2] else Dates(first, first)

    def texts(self) -> dict[int, str]:
        """All other attributes, matched as text."""
        apart = {STUDY_DATE, MODALITY, MODALITIES, SOP_CLASS, SOP_UID, STUDY_UID, SERIES_UID}
        apart |= {SERIES_NUMBER, INSTANCE_NUMBER}
        return {tag: value for tag, value in self.values.items() if tag not in apart}


def make_criteria(level: Level, wanted: Iterable[tuple[int, str]]) -> Criteria:
    """Without what matches everything: empty values, and `*`."""
    values = {tag: value for tag, value in wanted if value.strip() not in ("", "*", '""')}
    return Criteria(level, values)


def tag_of(name: str) -> int | None:
    """The attribute that a keyword or eight hexadecimal digits name; None for one that nobody can be asked for."""
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        tag: int | None = int(name, 16)
    else:
        tag = tag_for_keyword(name)
    return tag if tag is not None and is_text(tag) else None


def is_text(tag: int) -> bool:
    """Whether the attribute is in the dictionary and its values are texts or numbers in text, and not counted by us."""
    try:
        return tag not in _COUNTS and dictionary_VR(tag) in _TEXT_VRS
    except KeyError:
        return False


def is_name(tag: int) -> bool:
    """Whether its values are names of people."""
    return dictionary_VR(tag) == "PN"


def span(tag: int, value: str) -> tuple[str, str] | None:
    """The ends of a range of dates or times, such as 080000-1759; None for anything else. An open end is empty."""
    if dictionary_VR(tag) not in ("DA", "TM") or "-" not in value:
        return None
    first, _, last = value.partition("-")
    return first.strip(), last.strip()


def like(value: str) -> str | None:
    """The SQL pattern of a text with wildcards; None where it has none."""
    if not set("*?") & set(value):
        return None
    plain = re.sub(r"([\\%_])", r"\\\1", value)
    return plain.replace("*", "%").replace("?", "_")


def _day(text: str | None) -> date | None:
    if not text:
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        raise BadRequest("a date of the query is not in the calendar") from None
