"""What de-identification cannot make safe: objects that are refused, and images that wait for a person to look."""

from collections.abc import Container, Iterable, Mapping
from enum import StrEnum
from typing import Final

from pydicom.config import IGNORE
from pydicom.uid import UID

from shared.imaging.dicom.errors import UnsupportedDicom


class CannotDeidentify(UnsupportedDicom):
    """Its content is text, a document or raw data, in which identities cannot be found for certain."""

    slug, title = "cannot-deidentify", "Cannot be de-identified"


class Hold(StrEnum):
    """Why an image must not be passed on before someone has looked at it."""

    BURNED_IN = "burned-in"
    """Its header says, or its kind makes likely, that text is part of the picture."""
    EMBEDDED_OVERLAY = "embedded-overlay"
    """An overlay, which may be text, lies in unused bits of the pixels."""
    SLIDE_LABEL = "slide-label"
    """A photograph of a slide's label, or of the whole slide with it."""


_REFUSED: Final = {
    "1.2.840.10008.5.1.4.1.1.88.": "a structured report",
    "1.2.840.10008.5.1.4.1.1.104.": "an encapsulated document",
    "1.2.840.10008.5.1.4.1.1.11.": "a presentation state",
    "1.2.840.10008.5.1.4.1.1.9.": "a waveform or a voice recording",
    "1.2.840.10008.5.1.4.1.1.200.": "an inventory or a protocol",
    "1.2.840.10008.5.1.4.38.": "a hanging protocol",
    "1.2.840.10008.1.3.10.": "a DICOMDIR",
    "1.2.840.10008.5.1.4.1.1.66.": "raw data",
}
_NOT_RAW = frozenset(f"1.2.840.10008.5.1.4.1.1.66.{number}" for number in range(1, 9))
"""Registrations, fiducials, segmentations and surfaces share raw data's prefix."""
ENCAPSULATED_DOCUMENT = 0x00420011
OVERLAYS: Final = tuple(0x60000000 | group << 16 for group in range(0x100))
"""Groups of overlays."""
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_MODALITIES = frozenset({"US", "SC", "OT", "XC"})
"""Ultrasound, secondary capture, other, photographs: text in the picture is usual."""
_SCREENS = frozenset(
    {"SCREEN SAVE", "SCREENSAVE", "SCREEN_SAVE", "DOSE_INFO", "DOSE INFO", "RESULTS", "CSA REPORT"}
)
"""Image types of screen shots that scanners store as CT or MR images. They are nothing but text, with the examination's
number and true date, and Philips's dose sheets state all the same that none is burned in."""

SOP_CLASS, IMAGE_TYPE, MODALITY, CONVERSION = 0x00080016, 0x00080008, 0x00080060, 0x00080064
BURNED_IN, LABEL_IN_IMAGE = 0x00280301, 0x00480010
HELD_BY: Final = (SOP_CLASS, IMAGE_TYPE, MODALITY, CONVERSION, BURNED_IN, LABEL_IN_IMAGE)
"""What decides."""


def refuse(sop_class: str, tags: Iterable[int]) -> None:
    """Raise CannotDeidentify for documents and for what is no image at all."""
    if what := document(sop_class, tags):
        raise CannotDeidentify(f"This is {what}; only images are taken, as its text cannot be de-identified.")
    if not sop_class:
        raise CannotDeidentify("The file does not say what kind of object it is (SOP Class UID).")


def document(sop_class: str, tags: Iterable[int]) -> str | None:
    """What the object is, if it is a document or the like; None for images."""
    for prefix, what in _REFUSED.items():
        if f"{sop_class}.".startswith(prefix) and sop_class not in _NOT_RAW:
            return what
    return "an encapsulated document" if ENCAPSULATED_DOCUMENT in tags else None


def is_overlay_in_pixels(tags: Container[int]) -> bool:
    """Whether an overlay lies in unused bits of the pixels: one with a bit position (60xx,0102) and no data."""
    return any(group | 0x0102 in tags and group | 0x3000 not in tags for group in OVERLAYS)


def holds(values: Mapping[int, str], embedded_overlay: bool) -> tuple[Hold, ...]:
    """Why the image has to wait. values: of the tags of this module, by tag, where the header has them."""
    types = {part.strip().upper() for part in values.get(IMAGE_TYPE, "").split("\\")}
    found: list[Hold] = []
    if _may_show_text(values, types):
        found.append(Hold.BURNED_IN)
    if embedded_overlay:
        found.append(Hold.EMBEDDED_OVERLAY)
    slide = values.get(MODALITY) == "SM" or "VOLUME" in types
    if values.get(LABEL_IN_IMAGE) == "YES" or (types & {"LABEL", "OVERVIEW"} and slide):
        found.append(Hold.SLIDE_LABEL)
    return tuple(found)


def _may_show_text(values: Mapping[int, str], types: set[str]) -> bool:
    stated = values.get(BURNED_IN, "").strip().upper()
    if types & _SCREENS:
        return True
    if stated:
        return stated != "NO"
    sop_class = values.get(SOP_CLASS, "")
    captured = f"{sop_class}.".startswith(f"{_SECONDARY_CAPTURE}.")
    return (
        captured
        or "ultrasound" in UID(sop_class, IGNORE).name.lower()
        or values.get(MODALITY) in _MODALITIES
        or CONVERSION in values
    )
