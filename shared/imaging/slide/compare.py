"""Whether a cleaned slide is still the same slide, and shows nothing but it."""

import math

import numpy as np
from numpy.typing import NDArray
from openslide import PROPERTY_NAME_MPP_X, PROPERTY_NAME_MPP_Y, OpenSlide

from shared.imaging.slide.errors import BrokenSlide

SAMPLE = 128
"""Pixels along an edge of the regions that are compared, five of each level."""
SCALE_TOLERANCE = 1e-3
"""Of µm per pixel, relative, where it was written anew."""
COLOUR_TOLERANCE = 5.0
"""Mean difference, of 255, between the colours of parts of a region where the pixels were compressed anew. JPEG at
quality 90 changes single pixels by more, and the mean of PART × PART pixels by less than 2."""
PART = 16
_PLACES = ((0.0, 0.0), (1.0, 0.0), (0.5, 0.5), (0.0, 1.0), (1.0, 1.0))


def check_cleaned(before: OpenSlide, after: OpenSlide, reencoded: bool) -> None:
    """Raises BrokenSlide unless `after` has the levels, scale and pixels of `before`, and no other image."""
    if len(after.associated_images):
        raise BrokenSlide("The slide's label or macro image could not be taken out of its file.")
    if after.level_dimensions != before.level_dimensions:
        raise BrokenSlide("The slide could not be freed of its label without losing levels of it.")
    _check_scale(scale_of(before), scale_of(after))
    tolerance = COLOUR_TOLERANCE if reencoded else 0.0
    for level in range(before.level_count):
        for place in _PLACES:
            if _difference(before, after, level, place, reencoded) > tolerance:
                raise BrokenSlide("The slide's pixels did not stay the same without its label.")


def scale_of(slide: OpenSlide) -> tuple[float, float] | None:
    """µm per pixel of level 0 (x, y) as the file says it, plausible or not; None where it says none."""
    said = [slide.properties.get(name) for name in (PROPERTY_NAME_MPP_X, PROPERTY_NAME_MPP_Y)]
    try:
        across, down = (float(text or "nan") for text in said)
    except ValueError:
        return None
    return (
        (across, down) if all(math.isfinite(edge) and 1e-3 < edge < 1e5 for edge in (across, down)) else None
    )


def _check_scale(before: tuple[float, float] | None, after: tuple[float, float] | None) -> None:
    if before is None:
        return
    if after is None or not np.allclose(before, after, rtol=SCALE_TOLERANCE):
        raise BrokenSlide("The slide's scale did not stay the same without its label.")


def _difference(
    before: OpenSlide, after: OpenSlide, level: int, place: tuple[float, float], reencoded: bool
) -> float:
    """Largest difference of a pixel, or mean difference of parts where it was reencoded, in a region that lies at `place`, a share of the level's width and height."""
    dimensions = before.level_dimensions[level]
    size = (min(SAMPLE, dimensions[0]), min(SAMPLE, dimensions[1]))
    down = before.level_downsamples[level]
    x, y = (
        int((edge - part) * share * down) for edge, part, share in zip(dimensions, size, place, strict=True)
    )
    regions = [
        np.asarray(slide.read_region((x, y), level, size), dtype=np.float32) for slide in (before, after)
    ]
    if not reencoded:
        return float(np.abs(regions[0] - regions[1]).max())
    seen = regions[0][..., 3:] / 255  # what was never scanned has no colour of its own
    change = (regions[0] - regions[1])[..., :3] * seen
    return float(np.abs(_parts(np.asarray(change, dtype=np.float32))).mean())


def _parts(region: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 3) → the means of its parts, (H / PART, W / PART, 3)."""
    starts = [np.arange(0, edge, PART) for edge in region.shape[:2]]
    sums = np.add.reduceat(np.add.reduceat(region, starts[0], axis=0), starts[1], axis=1)
    sizes = [np.diff(np.append(start, edge)) for start, edge in zip(starts, region.shape[:2], strict=True)]
    return np.asarray(sums / np.multiply.outer(*sizes)[..., None], dtype=np.float32)
