"""What is kept of an image's patient, study and series beside its file, in the DICOM JSON model (PS3.18 Annex F)."""

from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.tag import Tag

PATIENT_AND_STUDY: Final = frozenset(
    {
        0x00080020,  # Study Date
        0x00080030,  # Study Time
        0x00080050,  # Accession Number
        0x00080090,  # Referring Physician's Name
        0x00080201,  # Timezone Offset From UTC
        0x00081030,  # Study Description
        0x00100010,  # Patient's Name
        0x00100020,  # Patient ID
        0x00100030,  # Patient's Birth Date
        0x00100040,  # Patient's Sex
        0x00101010,  # Patient's Age
        0x00120062,  # Patient Identity Removed
        0x00120063,  # De-identification Method
        0x0020000D,  # Study Instance UID
        0x00200010,  # Study ID
    }
)
SERIES: Final = frozenset(
    {
        0x00080021,  # Series Date
        0x00080031,  # Series Time
        0x00080060,  # Modality
        0x00080070,  # Manufacturer
        0x0008103E,  # Series Description
        0x00081090,  # Manufacturer's Model Name
        0x00180015,  # Body Part Examined
        0x00181030,  # Protocol Name
        0x00185100,  # Patient Position
        0x0020000E,  # Series Instance UID
        0x00200011,  # Series Number
        0x00200052,  # Frame of Reference UID
        0x00200060,  # Laterality
        0x00400244,  # Performed Procedure Step Start Date
        0x00400245,  # Performed Procedure Step Start Time
    }
)


def describe(dataset: Dataset) -> dict[str, Any]:
    """Of a de-identified image, the attributes of its patient, study and series that it has: what
    `DicomSeries.attributes` holds."""
    kept = Dataset()
    for tag in sorted(PATIENT_AND_STUDY | SERIES):
        if tag in dataset:
            kept[Tag(tag)] = dataset[Tag(tag)]
    described: dict[str, Any] = kept.to_json_dict(suppress_invalid_tags=True)
    return described


def key_of(tag: int) -> str:
    """How the JSON model writes a tag."""
    return f"{tag:08X}"
