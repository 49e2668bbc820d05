"""What is refused, and what waits for a person to look."""

from typing import Any

import pytest
from pydicom.sequence import Sequence
from pydicom.uid import UID

from shared.imaging.dicom.deidentify import CannotDeidentify, Hold
from tests.unit.shared.imaging.dicom.deid_images import PSEUDONYM, as_file, deidentifier, image

SC, MULTI_SC, US = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.2", "1.2.840.10008.5.1.4.1.1.6.1"
PHOTO, SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.4", "1.2.840.10008.5.1.4.1.1.77.1.6"
VOLUME = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]


def holds(**values: Any) -> tuple[Hold, ...]:
    return deidentifier().clean(as_file(image(**values)), PSEUDONYM).holds


@pytest.mark.parametrize(
    "values",
    [
        {"BurnedInAnnotation": "YES"},
        {"BurnedInAnnotation": "MAYBE"},
        {"Modality": "US"},
        {"Modality": "SC"},
        {"Modality": "OT"},
        {"Modality": "XC", "SOPClassUID": PHOTO},
        {"SOPClassUID": SC},
        {"SOPClassUID": MULTI_SC},
        {"SOPClassUID": US},
        {"ConversionType": "WSD"},
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
        {"ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"], "SOPClassUID": SC, "BurnedInAnnotation": "NO"},
        {"ImageType": ["DERIVED", "SECONDARY", "RESULTS"], "SOPClassUID": SC, "BurnedInAnnotation": "NO"},
    ],
)
def test_an_image_that_may_show_text_is_held(values: dict[str, object]) -> None:
    assert holds(**values) == (Hold.BURNED_IN,)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"BurnedInAnnotation": "NO"},
        {"Modality": "US", "BurnedInAnnotation": "NO"},
        {"SOPClassUID": SC, "Modality": "OT", "BurnedInAnnotation": "NO"},
        {"ImageType": ["DERIVED", "SECONDARY", "MPR"]},
        {"Modality": "SM", "SOPClassUID": SLIDE, "ImageType": VOLUME},
        {"ImageType": ["DERIVED", "PRIMARY", "OVERVIEW"]},
    ],
)
def test_other_images_are_not(values: dict[str, object]) -> None:
    assert holds(**values) == ()


def test_an_overlay_in_the_pixels_is_held() -> None:
    original = image()
    original.add_new(0x60000100, "US", 16)
    original.add_new(0x60000102, "US", 12)
    assert deidentifier().clean(original, PSEUDONYM).holds == (Hold.EMBEDDED_OVERLAY,)
    original.add_new(0x60003000, "OW", b"\0\0")
    assert deidentifier().clean(original, PSEUDONYM).holds == ()


@pytest.mark.parametrize(
    "values",
    [
        {"ImageType": ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "OVERVIEW", "NONE"]},
        {"ImageType": VOLUME, "SpecimenLabelInImage": "YES"},
    ],
)
def test_a_photograph_of_a_slides_label_is_held(values: dict[str, object]) -> None:
    assert holds(Modality="SM", SOPClassUID=SLIDE, **values) == (Hold.SLIDE_LABEL,)


@pytest.mark.parametrize(
    "sop_class",
    [
        "1.2.840.10008.5.1.4.1.1.88.33",
        "1.2.840.10008.5.1.4.1.1.104.1",
        "1.2.840.10008.5.1.4.1.1.104.2",
        "1.2.840.10008.5.1.4.1.1.11.1",
        "1.2.840.10008.5.1.4.1.1.9.1.1",
        "1.2.840.10008.5.1.4.1.1.66",
        "1.2.840.10008.1.3.10",
    ],
)
def test_documents_and_the_like_are_refused(sop_class: str) -> None:
    with pytest.raises(CannotDeidentify, match="only images are taken"):
        holds(SOPClassUID=sop_class)
    assert UID(sop_class).name != sop_class


def test_a_segmentation_is_not_raw_data() -> None:
    assert holds(SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4") == ()


def test_an_image_with_a_document_in_it_is_refused() -> None:
    with pytest.raises(CannotDeidentify, match="encapsulated document"):
        holds(EncapsulatedDocument=b"%PDF-1.7")


def test_an_object_that_does_not_say_what_or_which_it_is_is_refused() -> None:
    for keyword, meta in (
        ("SOPClassUID", "MediaStorageSOPClassUID"),
        ("SOPInstanceUID", "MediaStorageSOPInstanceUID"),
    ):
        original = image()
        delattr(original, keyword)
        delattr(original.file_meta, meta)
        with pytest.raises(CannotDeidentify, match="does not say"):
            deidentifier().clean(original, PSEUDONYM)


def test_answers_and_icons_inside_an_image_go() -> None:
    original = image()
    icon = image()
    original.IconImageSequence = Sequence([icon])
    original.ContentSequence = Sequence([icon])
    result = deidentifier().clean(original, PSEUDONYM).dataset
    assert "IconImageSequence" not in result
    assert len(result.ContentSequence) == 0
