"""A DICOM slide's files without those that show the label or the whole glass."""

import shutil
from pathlib import Path

from shared.imaging.dicom.errors import NotDicom
from shared.imaging.dicom.headers import read_header
from shared.imaging.dicom.instance import WHOLE_SLIDE
from shared.imaging.slide.errors import BrokenSlide
from shared.imaging.slide.reading import open_slide

SLIDE_IMAGE = "VOLUME"
"""Third value of ImageType (PS3.3 C.8.12.4.1.1): LABEL, OVERVIEW, LOCALIZER and THUMBNAIL are the others."""


def clean_dicom(source: Path, target: Path) -> tuple[str, ...]:
    """Copy the slide images in the folder `source` into the new folder `target`, as 000001.dcm and so on.

    Their headers stay as they are: de-identification is another step. Returns what was left out. Raises BrokenSlide
    where no slide image is left, and what `read_header` raises.
    """
    target.mkdir()
    removed = set()
    kept = 0
    for path in sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink()):
        kind = _kind(path)
        if kind == SLIDE_IMAGE:
            kept += 1
            shutil.copyfile(path, target / f"{kept:06}.dcm")
        elif kind is not None:
            removed.add(kind.lower())
    if not kept:
        raise BrokenSlide("The DICOM files hold no image of a slide, only of labels or overviews, or none.")
    with open_slide(target / "000001.dcm") as slide:
        if len(slide.associated_images):
            raise BrokenSlide("The DICOM slide's label or overview could not be left out.")
    return tuple(sorted(removed))


def _kind(path: Path) -> str | None:
    """What a file shows, in our words; None for what is no image of a slide."""
    try:
        header = read_header(path)
    except NotDicom:
        return None
    if header.sop_class != WHOLE_SLIDE or len(header.image_type) < 3:
        return None
    known = {SLIDE_IMAGE, "LABEL", "OVERVIEW", "LOCALIZER", "THUMBNAIL"}
    return header.image_type[2] if header.image_type[2] in known else "other"
