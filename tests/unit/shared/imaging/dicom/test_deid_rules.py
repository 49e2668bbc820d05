"""Every line of PS3.15 Table E.1-1, put into an image with a value that must not stay, and looked at afterwards."""

from datetime import date, timedelta

import pytest
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import FileDataset

from shared.imaging.dicom.deid_elements import Encoding
from shared.imaging.dicom.deid_rules import DESCRIPTORS, PATIENT_ID, Row, table
from shared.imaging.dicom.deidentify import CannotDeidentify
from tests.unit.shared.imaging.dicom.deid_images import (
    PSEUDONYM,
    ROOT,
    as_file,
    cleaned,
    deidentifier,
    image,
    written,
)

ENCODING = Encoding(implicit=False, little=True)
LEAK = b"Grzegorz Brzeczyszczykiewicz"
UID = f"{ROOT}77.1234567"
ITEM = b"".join(ENCODING.encoded(ENCODING.raw(0x00100020, "LO", LEAK)))
VALUES = {
    "AS": b"042Y",
    "CS": b"BRZECZYSZCZYKIEW",
    "DA": b"20240229",
    "DS": b"271828",
    "DT": b"20240229131415",
    "IS": b"271828",
    "SQ": ENCODING.items([ITEM]),
    "TM": b"131415",
    "UI": UID.encode(),
}
NEVER_IN_DATA_SET = {"0000", "0002", "0004", "FFFA", "FFFC"}
"""Groups of commands, file meta information, directories, signatures and padding: they go with their groups."""


def vr_of(tag: int) -> str:
    return dictionary_VR(tag).split(" or ")[0] if dictionary_has_tag(tag) else "LO"


def with_element(tag: int) -> FileDataset:
    vr = vr_of(tag)
    dataset = as_file(image())
    number = vr in {"FD", "FL", "SL", "SS", "UL", "US"}
    value = b"\1\2\3\4\5\6\7\x08" if number else VALUES.get(vr, LEAK)
    dataset[tag] = ENCODING.raw(tag, vr, value)
    return dataset


def expected(tag: int, row: Row) -> str:
    """What our options make of a row, written down apart from the code."""
    vr = vr_of(tag)
    if f"{tag >> 16:04X}" in NEVER_IN_DATA_SET:
        return "removed"
    if tag == PATIENT_ID:
        return "pseudonym"
    if row.name in ("Patient's Age", "Patient's Sex"):
        return "kept" if vr == "AS" else "emptied"  # the value here is no sex
    if row.modified_dates == "C" and vr in ("DA", "DT", "TM"):
        return "shifted" if vr != "TM" else "kept"
    if row.name == "Device Serial Number":
        return "dummy"
    by_action = {
        "X": "removed",
        "X/D": "removed",
        "Z": "emptied",
        "X/Z": "emptied",
        "X/Z/D": "removed" if vr == "SQ" else "emptied",
        "D": {"SQ": "emptied", "UI": "uid"}.get(vr, "dummy"),
        "Z/D": "dummy",
        "U": "uid",
        "X/Z/U*": "items",
    }
    return by_action[row.basic]


def test_the_table_is_whole() -> None:
    rows = table()
    assert len(rows) == 653
    actions = {row.basic for row in rows.values()}
    assert actions == {"X", "Z", "D", "U", "X/Z", "X/D", "Z/D", "X/Z/D", "X/Z/U*"}
    assert rows[0x00100010] == Row("Patient's Name", "Z", "", "", "")
    assert rows[0x00080020] == Row("Study Date", "Z", "C", "", "")
    assert rows[0x0008103E] == Row("Series Description", "X", "", "C", "")
    assert rows[0x00101010] == Row("Patient's Age", "X", "", "", "K")
    assert all(rows[tag].descriptors == "C" for tag in DESCRIPTORS)


@pytest.mark.parametrize(
    ("tag", "row"), table().items(), ids=lambda each: f"{each:08X}" if isinstance(each, int) else ""
)
def test_each_attribute_of_the_table(tag: int, row: Row) -> None:
    original = with_element(tag)
    if row.name == "Encapsulated Document":
        with pytest.raises(CannotDeidentify):
            cleaned(original)
        return
    raw = written(deidentifier().clean(original, PSEUDONYM).dataset)
    result = cleaned(original)
    wanted, found = expected(tag, row), result.get(tag)
    value = None if found is None else found.value
    text = "" if value is None else str(value)
    for leak in (LEAK, UID.encode(), b"BRZECZYSZCZYKIEW"):
        assert leak not in raw
    if wanted == "removed":
        assert found is None
    elif wanted == "emptied":
        assert found is not None
        assert found.is_empty
    elif wanted == "dummy":
        assert found is not None
        assert not found.is_empty
        assert text not in (VALUES.get(vr_of(tag), LEAK).decode(), "42")
    elif wanted == "uid":
        assert text == deidentifier().pseudonyms.uid(UID)
    elif wanted == "shifted":
        days = timedelta(deidentifier().pseudonyms.days("HOSP-7734521"))
        assert text == (date(2024, 2, 29) + days).strftime("%Y%m%d") + (
            "131415" if vr_of(tag) == "DT" else ""
        )
    elif wanted == "kept":
        assert text == VALUES[vr_of(tag)].decode()
    elif wanted == "items":
        assert found is not None
        assert [item.PatientID for item in found.value] == [PSEUDONYM]
    else:
        assert text == PSEUDONYM


@pytest.mark.parametrize("tag", sorted(DESCRIPTORS))
def test_a_descriptor_keeps_its_known_words(tag: int) -> None:
    dataset = as_file(image())
    dataset[tag] = ENCODING.raw(tag, "LO", b"Thorax Brzeczyszczykiewicz")
    assert cleaned(dataset)[tag].value == "Thorax"
