"""What a file is, from its bytes: its head, and then the parts that its format says where to look for."""

from itertools import chain
from pathlib import Path

from openslide import OpenSlide, OpenSlideError

from shared.errors import UnsupportedImage
from shared.formats.head import recognise
from shared.formats.names import PARTS_OF_SLIDES, SUFFIXES
from shared.formats.source import FileSource
from shared.formats.types import ACCEPTED, Format, Identified
from shared.imaging.metaimage import read_metaimage_layout
from shared.imaging.nifti import read_layout
from shared.imaging.nifti_header import Limits
from shared.imaging.nrrd import read_nrrd_layout

_MAYBE_SLIDES = frozenset({Format.TIFF, Format.OME_TIFF, Format.ZEISS_CZI, Format.SAKURA})
_KNOWN_SUFFIXES = frozenset(chain(*SUFFIXES.values(), PARTS_OF_SLIDES))


def identify(path: Path, limits: Limits | None = None, *, slides: bool = True) -> Identified:
    """What the file at `path` is, whatever its name; a name that says otherwise is told as `details["named"]`.

    Headers are checked (sizes, geometry, places inside the file), pixels are not read. Raises UnsupportedImage,
    Invalid or TooLarge; the message says what was seen and what would be right. slides: whether OpenSlide is asked
    here about what may be a slide (`may_be_slide`); who does not trust the file asks it in a process of its own.
    """
    with path.open("rb") as file:
        found = recognise(FileSource(file, path))
    _check_volume(path, found.format, limits or Limits())
    if slides and may_be_slide(found):
        found = as_slide(found, vendor_of(path))
    return _with_name(path, found)


def may_be_slide(found: Identified) -> bool:
    """Whether only OpenSlide can tell if it is a slide."""
    return found.format in _MAYBE_SLIDES


def vendor_of(path: Path) -> str | None:
    """OpenSlide's name of the vendor of a slide; None for what is no slide. Raises UnsupportedImage."""
    try:
        return OpenSlide.detect_format(path)
    except OpenSlideError as error:
        raise UnsupportedImage("OpenSlide cannot read the slide's headers; the file is damaged.") from error


def _check_volume(path: Path, format: Format, limits: Limits) -> None:
    if format is Format.NIFTI:
        read_layout(path, limits)
    elif format is Format.NRRD:
        read_nrrd_layout(path, limits)
    elif format is Format.MHA:
        read_metaimage_layout(path, limits)


def as_slide(found: Identified, vendor: str | None) -> Identified:
    """What a file that may be a slide is, by what OpenSlide said of it. Raises UnsupportedImage."""
    if vendor is not None:
        shown = found.format if found.format in (Format.ZEISS_CZI, Format.SAKURA) else Format.SLIDE_TIFF
        return Identified(shown, "slide", details={**found.details, "vendor": vendor})
    if found.format is Format.ZEISS_CZI:
        raise UnsupportedImage("The file is a Zeiss CZI that holds no slide image; export it as OME-TIFF.")
    if found.format is Format.SAKURA:
        raise UnsupportedImage(f"The file is an SQLite database that is no Sakura slide; {ACCEPTED}.")
    return found


def _with_name(path: Path, found: Identified) -> Identified:
    suffix = path.suffix.lower()
    if suffix not in _KNOWN_SUFFIXES or suffix in SUFFIXES.get(found.format, (suffix,)):
        return found
    details = {**found.details, "named": suffix}
    return Identified(found.format, found.kind, found.media_type, details, found.needs)
