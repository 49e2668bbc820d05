"""Whole-slide images through OpenSlide: opened, checked and described, without label, macro or patient data.

Alone can come: Aperio .svs, Hamamatsu .ndpi, Leica .scn, Philips and generic tiled .tiff, Sakura .svslide,
Trestle .tif, Ventana .bif, Zeiss .czi, and one level of a DICOM slide. In an archive must come: MIRAX (the .mrxs
file, itself only a JPEG or empty, beside the folder of its name with Slidedat.ini), Hamamatsu .vms and .vmu with
their pictures, and the several levels of a DICOM slide (which OpenSlide finds in the folder of the one it is
given). For the first two the names within the archive must be kept, since OpenSlide looks for them.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from openslide import (
    PROPERTY_NAME_MPP_X,
    PROPERTY_NAME_MPP_Y,
    PROPERTY_NAME_OBJECTIVE_POWER,
    OpenSlide,
    OpenSlideError,
    OpenSlideUnsupportedFormatError,
)

from shared.errors import UnsupportedImage
from shared.formats.source import FileSource
from shared.formats.tiff import MAX_EDGE, is_tiff
from shared.imaging.slide.errors import BrokenSlide
from shared.imaging.slide.guards import check_tiff

MPP = (0.05, 20.0)
"""Finest and coarsest plausible scale of a slide's largest level, µm per pixel."""
SQUARE = 1.1
"""Largest plausible ratio of a pixel's edges."""
PROBE = 64
_PROPERTIES = re.compile(
    r"openslide\.(vendor|objective-power|mpp-[xy]|level-count|background-color|bounds-(x|y|width|height)"
    r"|level\[\d+\]\.(width|height|downsample|tile-width|tile-height))"
)
"""OpenSlide's own names for numbers. Vendors' properties and TIFF tags hold names, dates and serial numbers."""


@dataclass(frozen=True)
class Level:
    """One resolution of the pyramid. downsample: how much smaller than level 0."""

    width: int
    height: int
    downsample: float


@dataclass(frozen=True)
class SlideInfo:
    """What a slide is; nothing of it can identify a patient.

    mpp: µm per pixel of level 0 (x, y); None where absent or implausible, and then `mpp_note` says why, and areas
    and lengths must not be given.
    """

    vendor: str
    width: int
    height: int
    levels: tuple[Level, ...]
    mpp: tuple[float, float] | None
    mpp_note: str
    objective: float | None
    properties: dict[str, str]


@contextmanager
def open_slide(path: Path) -> Iterator[OpenSlide]:
    """The slide at `path`; errors of reading it, then or inside the block, become UnsupportedImage or Invalid.

    Use its levels only: `associated_images` holds label and macro, which show the patient's name.
    """
    with path.open("rb") as file:
        source = FileSource(file, path)
        if is_tiff(source.read(0, 4)):
            check_tiff(source)
    try:
        slide = OpenSlide(path)
    except OpenSlideUnsupportedFormatError as error:
        raise UnsupportedImage(
            "The file is no whole-slide image that OpenSlide reads; export it as pyramidal TIFF or DICOM."
        ) from error
    except OpenSlideError as error:
        raise BrokenSlide(
            "The slide's headers are damaged or incomplete; send all of its files again."
        ) from error
    try:
        with reading():
            _check_levels(slide)
            yield slide
    finally:
        slide.close()


@contextmanager
def reading() -> Iterator[None]:
    """Turns what OpenSlide says of pixels that it cannot read into BrokenSlide; the slide can be read no more then."""
    try:
        yield
    except OpenSlideError as error:
        raise BrokenSlide(
            "A part of the slide cannot be decoded; the file is damaged or cut short."
        ) from error


def describe_slide(path: Path) -> SlideInfo:
    """Checks the slide at `path` (its levels, and that pixels of each can be read) and says what it is."""
    with open_slide(path) as slide:
        levels = tuple(
            Level(width, height, downsample)
            for (width, height), downsample in zip(
                slide.level_dimensions, slide.level_downsamples, strict=True
            )
        )
        for number, level in enumerate(levels):
            _probe(slide, number, level)
        named = {name: slide.properties.get(name) for name in slide.properties if _PROPERTIES.fullmatch(name)}
        properties = {name: value for name, value in named.items() if value is not None}
    mpp, note = plausible_mpp(properties.get(PROPERTY_NAME_MPP_X), properties.get(PROPERTY_NAME_MPP_Y))
    vendor = properties.get("openslide.vendor", "unknown")
    objective = _positive(properties.get(PROPERTY_NAME_OBJECTIVE_POWER))
    return SlideInfo(vendor, levels[0].width, levels[0].height, levels, mpp, note, objective, properties)


def plausible_mpp(x: str | None, y: str | None) -> tuple[tuple[float, float] | None, str]:
    """µm per pixel from what the file says, or None and the reason."""
    if x is None or y is None:
        return None, "The slide does not say its scale (µm per pixel)."
    across, down = _positive(x), _positive(y)
    if across is None or down is None:
        return None, "The slide's scale is no positive number."
    if not all(MPP[0] <= edge <= MPP[1] for edge in (across, down)):
        return (
            None,
            f"The slide says {across:.3g} × {down:.3g} µm per pixel; {MPP[0]} to {MPP[1]:g} are plausible.",
        )
    if max(across, down) / min(across, down) > SQUARE:
        return None, f"The slide says {across:.3g} × {down:.3g} µm per pixel; scanners' pixels are square."
    return (across, down), ""


def _check_levels(slide: OpenSlide) -> None:
    """Sizes that cannot be come of contradictions in the headers; to read pixels then may take for ever."""
    edges = [edge for dimensions in slide.level_dimensions for edge in dimensions]
    if not edges or not all(0 < edge <= MAX_EDGE for edge in edges):
        raise BrokenSlide(f"The slide's levels must have 1 to {MAX_EDGE:,} pixels along each edge.")


def _probe(slide: OpenSlide, number: int, level: Level) -> None:
    """Reads a few pixels in the middle of a level: detection looks at headers only."""
    size = (min(PROBE, level.width), min(PROBE, level.height))
    place = [
        int((edge - probe) / 2 * level.downsample)
        for edge, probe in zip((level.width, level.height), size, strict=True)
    ]
    slide.read_region((place[0], place[1]), number, size)


def _positive(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
