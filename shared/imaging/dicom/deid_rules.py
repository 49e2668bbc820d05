"""What becomes of each attribute: Table E.1-1 of DICOM PS3.15 2026d, and stricter rules for what it does not list.

The table is `ps315_2026d.tsv`, a row for each attribute with the action of the Basic Profile and of every option. Of
the options we take Clean Descriptors, Retain Longitudinal Temporal Information with Modified Dates and, of Retain
Patient Characteristics, age and sex.
"""

import csv
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache, lru_cache
from importlib import resources
from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_VM, dictionary_VR

EDITION: Final = "2026d"

PATIENT_NAME, PATIENT_ID, PATIENT_SEX, PATIENT_AGE = 0x00100010, 0x00100020, 0x00100040, 0x00101010
DEVICE_SERIAL_NUMBER = 0x00181000

DESCRIPTORS: Final = frozenset(
    {0x00081030, 0x0008103E}  # Study and Series Description
    | {
        0x00180010,
        0x00181030,
        0x00181400,
    }  # Contrast/Bolus Agent, Protocol Name, Acquisition Device Processing
    | {0x001811BB, 0x00081088, 0x00200027}  # Field of View Label, Pyramid Description and Label
    | {0x00321060, 0x00321070, 0x00400254}  # Requested Procedure, Requested Contrast Agent, Performed Step
    | {0x30060026}  # ROI Name
)
"""Short descriptions that say what an image is. Their known words are kept; every other attribute that Clean
Descriptors would let us keep (reasons, diagnoses, comments) is treated as by the Basic Profile."""

_CLASS_UIDS = frozenset(
    {
        0x00080016,
        0x0008001A,
        0x0008001B,
        0x00080062,
        0x00081150,
        0x0008115A,
        0x00083002,
        0x00080117,
        0x00080118,
    }
    | {0x00041510, 0x00041512, 0x0004151A, 0x0008010C, 0x00340009, 0x04000010, 0x04000510, 0x00081120}
)
"""SOP classes, transfer syntaxes and coding schemes: what something is, not which one."""
_TEXTS_KEPT = frozenset({0x00080119, 0x00080120})
"""Long Code Value and URN Code Value; other unlisted long texts go."""
_BLOBS_KEPT = frozenset({0x00282000, 0x7FE00010, 0x54000110, 0x54000112, 0x5400100A, 0x54001010})
"""ICC profile, pixels, waveforms; other unlisted bytes of no stated structure go."""
_ISSUERS = frozenset({0x00080051, 0x00100024})
"""Who issued the accession number or the patient's ID: an institution; the table has only other issuers."""
_ENTITIES = frozenset({0x00400031, 0x00400032})
"""What such an institution is called."""
_PIXELS = frozenset({0x7FE00001, 0x7FE00002, 0x7FE00008, 0x7FE00009, 0x7FE00010})

_LETTERS = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM"}) | {
    "UC",
    "UI",
    "UR",
    "UT",
}
_SIZES = {"AT": 4, "FD": 8, "FL": 4, "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8}
_VRS = _LETTERS | _SIZES.keys() | {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UN"}
_SHORT_TEXTS = frozenset({"CS", "LO", "SH"})
_LONG_TEXTS = frozenset({"LT", "ST", "UC", "UR", "UT"})
TEXTS: Final = _SHORT_TEXTS | _LONG_TEXTS | {"AE", "PN"}
"""Value representations that a name or an identifier could be in."""


class Action(Enum):
    """What is done with one element."""

    KEEP = auto()
    REMOVE = auto()
    EMPTY = auto()
    """A value of no length: action Z."""
    DUMMY = auto()
    """A value that says nothing: action D."""
    UID = auto()
    """Replaced, consistently in the tenant, unless DICOM itself defines it: action U."""
    CLASS_UID = auto()
    """The same, but kept when it lies in DICOM's own root or no instance."""
    DATE = auto()
    DATETIME = auto()
    TIME = auto()
    DESCRIPTOR = auto()
    """Known words are kept."""
    TEXT = auto()
    """Kept unless it mentions someone, a date or a UID."""
    NUMBER = auto()
    """Kept when it is one."""
    AGE = auto()
    SEX = auto()
    PSEUDONYM = auto()
    ITEMS = auto()
    """Each item is cleaned by the same rules."""


@dataclass(frozen=True)
class Rule:
    """An action, and what is done instead where nothing of the value can be kept (REMOVE, EMPTY or DUMMY)."""

    action: Action
    otherwise: Action = Action.REMOVE
    vr: str = "UN"
    """The value representation that the standard gives the attribute."""
    length: int = 0
    """Of a number or so many that are kept, in bytes; 0 where the standard leaves it open."""
    identifies: bool = False
    """The value is taken out because it names someone or something: nothing that is kept may mention it."""


@dataclass(frozen=True)
class Row:
    """One line of the table: the Basic Profile's action, and those of the options that we take ("" or C or K)."""

    name: str
    basic: str
    modified_dates: str
    descriptors: str
    patient: str


@cache
def table() -> dict[int, Row]:
    """The table by tag (group × 65536 + element); private attributes, curves and overlays, its patterns, apart."""
    text = resources.files(__package__).joinpath(f"ps315_{EDITION}.tsv").read_text(encoding="ascii")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return {
        int(row["tag"], 16): Row(
            row["name"], row["basic"], row["modified_dates"], row["descriptors"], row["patient"]
        )
        for row in rows
        if row["tag"].isalnum() and "x" not in row["tag"] and row["tag"] != "PRIVATE"
    }


@lru_cache(maxsize=16_384)
def rule_for(tag: int, declared: str | None) -> Rule:
    """The rule for an element; declared: the VR that the file states, None in implicit encoding."""
    if tag in _PIXELS:
        return Rule(Action.KEEP)
    if _never_kept(tag):
        return Rule(Action.REMOVE)
    vr = dictionary_VR(tag) if dictionary_has_tag(tag) else ""
    row = table().get(tag)
    if row is not None:
        return _listed(tag, row, vr or declared or "UN")
    if not vr or _contradicts(declared, vr):
        return Rule(Action.REMOVE, identifies=declared == "PN")
    return _unlisted(tag, vr, _length(tag, declared or vr))


def _length(tag: int, vr: str) -> int:
    """How long the value is, where it is a fixed number of numbers."""
    count, vr = dictionary_VM(tag), vr if vr in _SIZES else dictionary_VR(tag)[:2]
    return int(count) * _SIZES.get(vr, 0) if count.isdecimal() else 0


def _never_kept(tag: int) -> bool:
    """Private attributes, group lengths, commands, file meta, directory records, curves, overlays, padding."""
    group = tag >> 16
    return bool(
        group & 1 or tag & 0xFFFF == 0 or group < 0x0008 or group >> 8 in (0x50, 0x60) or group >= 0xFFF0
    )


def _contradicts(declared: str | None, vr: str) -> bool:
    """A number may be stated in another number's VR; letters that stand where a number should may be anything."""
    if declared in (None, "UN") or declared in vr.split(" or "):
        return False
    if declared not in _VRS:
        return True
    both_short = declared in _SHORT_TEXTS and vr in _SHORT_TEXTS
    neither_letters = declared not in _LETTERS | {"SQ", "OB"} and vr not in _LETTERS | {"SQ", "OB"}
    return not (both_short or neither_letters)


def _listed(tag: int, row: Row, vr: str) -> Rule:
    basic = _basic(tag, row.basic, vr)
    if tag == PATIENT_ID:
        return Rule(Action.PSEUDONYM, Action.PSEUDONYM, vr, identifies=True)
    if tag == PATIENT_AGE:
        return Rule(Action.AGE, basic, vr)
    if tag == PATIENT_SEX:
        return Rule(Action.SEX, basic, vr)
    if row.modified_dates and vr in _CLOCKS:
        return Rule(_CLOCKS[vr], Action.REMOVE if basic is Action.REMOVE else Action.EMPTY, vr)
    if tag in DESCRIPTORS:
        return Rule(Action.DESCRIPTOR, basic, vr)
    free_text = bool(row.descriptors)
    return Rule(basic, basic, vr, identifies=vr in TEXTS - {"CS"} and not free_text)


_CLOCKS = {"DA": Action.DATE, "DT": Action.DATETIME, "TM": Action.TIME}
_COMPOUND = {
    "X": Action.REMOVE,
    "X/D": Action.REMOVE,
    "Z": Action.EMPTY,
    "X/Z": Action.EMPTY,
    "X/Z/D": Action.EMPTY,
    "D": Action.DUMMY,
    "Z/D": Action.DUMMY,
    "U": Action.UID,
    "X/Z/U*": Action.ITEMS,
}
"""Which of two actions depends on the attribute's type in the object's definition. No length is valid for types 2
and 3, and in the images we take nothing with D as one choice of more is of type 1, but the device's serial number."""


def _basic(tag: int, code: str, vr: str) -> Action:
    """The Basic Profile's action. No item of a sequence says nothing: it is emptied instead; a UID's dummy is
    another UID."""
    if tag == DEVICE_SERIAL_NUMBER:
        return Action.DUMMY
    action = _COMPOUND[code]
    if code == "X/Z/D" and vr == "SQ":
        return Action.REMOVE
    if action is Action.DUMMY:
        return {"SQ": Action.EMPTY, "UI": Action.UID}.get(vr, action)
    return action


def _unlisted(tag: int, vr: str, length: int) -> Rule:
    if vr in _CLOCKS:
        return Rule(_CLOCKS[vr], Action.REMOVE, vr)
    if vr in _SHORT_TEXTS or tag in _TEXTS_KEPT:
        return Rule(Action.TEXT, Action.REMOVE if vr == "CS" else Action.DUMMY, vr)
    if vr == "PN":
        return Rule(Action.EMPTY, Action.EMPTY, vr, identifies=True)
    if vr == "UI":
        return Rule(Action.CLASS_UID if tag in _CLASS_UIDS else Action.UID, Action.REMOVE, vr)
    if vr == "SQ":
        return Rule(Action.REMOVE if tag in _ISSUERS else Action.ITEMS, Action.REMOVE, vr)
    if vr in ("DS", "IS"):
        return Rule(Action.NUMBER, Action.REMOVE, vr)
    if vr in _LONG_TEXTS | {"AE", "AS"} or ("OB" in vr and tag not in _BLOBS_KEPT):
        return Rule(Action.REMOVE, vr=vr, identifies=vr == "AE" or tag in _ENTITIES)
    return Rule(Action.KEEP, vr=vr, length=length)
