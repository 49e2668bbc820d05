"""Bytes that are not what they should be: refused in so many words, or cleaned all the same."""

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from shared.errors import HounsfieldError
from shared.imaging.dicom.deid_cleaner import MOST_TOKENS
from shared.imaging.dicom.deid_elements import Encoding
from shared.imaging.dicom.deidentify import CannotDeidentify
from tests.unit.shared.imaging.dicom.deid_images import (
    PSEUDONYM,
    as_file,
    cleaned,
    deidentifier,
    image,
    read_back,
    written,
)

SYNTAXES = [
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
]
PIECES = [b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\xff\xff\xff\xff", b"SQ", b"UN", b"\x1b$B", b"\\\\", b"\0"]
ENCODING = Encoding(implicit=False, little=True)


def file_of(syntax: UID) -> bytes:
    file = BytesIO()
    image(syntax).save_as(file, enforce_file_format=True)
    return file.getvalue()


FILES = [file_of(syntax) for syntax in SYNTAXES]


@settings(max_examples=400)
@given(
    st.sampled_from(FILES),
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 30), st.sampled_from(PIECES) | st.binary(max_size=8)),
        max_size=6,
    ),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whatever_is_damaged_in_a_file_it_is_cleaned_or_refused(
    raw: bytes, damage: list[tuple[float, int, bytes]]
) -> None:
    for place, cut, put in damage:
        at = int(place * len(raw))
        raw = raw[:at] + put + raw[at + cut :]
    target = BytesIO()
    try:
        result = deidentifier().clean_file(BytesIO(raw), target, PSEUDONYM)
    except HounsfieldError:
        return
    assert read_back(target.getvalue()).PatientID == PSEUDONYM
    if result.identity.name.startswith("Qwertowski^Zbigniew"):
        assert b"Zbigniew" not in target.getvalue()


@pytest.mark.parametrize("tag", [0x00280010, 0x00280030, 0x00186011])
def test_a_number_that_is_longer_than_it_can_be_goes(tag: int) -> None:
    dataset = as_file(image())
    dataset[tag] = ENCODING.raw(tag, "US", b"Zbigniew Qwertowski and more")
    result = deidentifier().clean(dataset, PSEUDONYM).dataset
    assert b"Zbigniew" not in written(result)


def test_an_element_of_a_made_up_representation_goes() -> None:
    dataset = as_file(image())
    dataset[0x00280010] = ENCODING.raw(0x00280010, "QQ", b"\4\0")
    assert "Rows" not in cleaned(dataset)


def test_more_names_than_an_image_can_have_are_refused() -> None:
    dataset = image(OperatorsName=[f"Qwert{number}" for number in range(MOST_TOKENS + 1)])
    assert deidentifier().clean(dataset, PSEUDONYM).dataset  # of one element only its beginning is read
    dataset.ReferencedImageSequence = Sequence(
        [_person(f"Qwert{number}") for number in range(MOST_TOKENS + 1)]
    )
    with pytest.raises(CannotDeidentify, match="names and identifiers"):
        deidentifier().clean(dataset, PSEUDONYM)


def test_a_description_that_is_longer_than_any_goes() -> None:
    dataset = image_with(0x0008103E, "LO", b"1 " * 40_000 + b".")
    assert "SeriesDescription" not in cleaned(dataset)
    assert cleaned(image_with(0x00181160, "SH", b"filter " * 5000)).FilterType == "REMOVED"


def image_with(tag: int, vr: str, value: bytes) -> FileDataset:
    dataset = as_file(image(ImplicitVRLittleEndian))
    dataset[tag] = Encoding(implicit=True, little=True).raw(tag, vr, value)
    return dataset


def _person(name: str) -> Dataset:
    item = Dataset()
    item.PatientName = name
    return item


@pytest.mark.filterwarnings("ignore:Failed to decode byte string")
def test_no_value_of_a_file_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    dataset = image_with(0x0020000D, "UI", b"Zbigniew")
    dataset[0x00080016] = Encoding(implicit=True, little=True).raw(0x00080016, "UI", b"Zbigniew")
    dataset[0x00100010] = Encoding(implicit=True, little=True).raw(0x00100010, "PN", b"Zbigniew \xff\xfe")
    deidentifier().clean(dataset, PSEUDONYM)
    assert "Zbigniew" not in caplog.text
