"""The one in-memory form of an OCT scan, and which scales are plausible."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.imaging.nifti_header import ImplausibleImage, TooManyVoxels

Laterality = Literal["R", "L"]

AXIAL_MM = (0.0008, 0.02)
"""Depth of one pixel: 1.7–6 µm in clinical devices."""
LATERAL_MM = (0.0005, 0.2)
BETWEEN_MM = (0.001, 2.0)
MAX_BYTES = 640 * 2**20
MAX_SCANS = 4_096
MAX_EDGE = 16_384
MAX_SCAN_PIXELS = 2**24
"""Of one B-scan: 4,096 × 4,096, ten times the usual."""


@dataclass(frozen=True)
class OctSpacing:
    """Millimetres: depth of a pixel, width of a pixel, distance between neighbouring B-scans.

    between is None for a single B-scan, and where B-scans are not parallel (radial and circular patterns).
    """

    axial: float
    lateral: float
    between: float | None


@dataclass(frozen=True, eq=False)
class OctVolume:
    """B-scans of one eye. bscans: (scans, height, width) uint8 or uint16, depth along the height, vitreous on top.

    spacing_mm: None where absent or implausible; then `spacing_note` says why, and nothing may be measured.
    laterality: None where the file does not say. fundus: (height, width) or (height, width, 3) uint8.
    """

    bscans: NDArray[np.generic]
    spacing_mm: OctSpacing | None
    spacing_note: str
    laterality: Laterality | None
    device: str
    fundus: NDArray[np.uint8] | None = None


def validated_spacing(
    axial: float | None, lateral: float | None, between: float | None, scans: int
) -> tuple[OctSpacing | None, str]:
    """The spacing if every part of it is plausible, else None and the reason. Measures nothing by guess."""
    if axial is None or lateral is None:
        return None, "The file does not say the size of a pixel; nothing can be measured."
    parts = [("depth", axial, AXIAL_MM), ("width", lateral, LATERAL_MM)]
    if between is not None and scans > 1:
        parts.append(("distance between scans", between, BETWEEN_MM))
    for name, value, (low, high) in parts:
        if not (math.isfinite(value) and low <= value <= high):
            return None, (
                f"The file says a pixel {name} of {value * 1000:.4g} µm; {low * 1000:g} to {high * 1000:g} are "
                "plausible. Nothing is measured in it."
            )
    return OctSpacing(axial, lateral, between if scans > 1 else None), ""


def check_size(scans: int, height: int, width: int, sample_bytes: int, max_bytes: int = MAX_BYTES) -> None:
    """Refuses sizes that no device writes, before memory is taken."""
    if not (1 <= scans <= MAX_SCANS and 1 <= height <= MAX_EDGE and 1 <= width <= MAX_EDGE):
        raise ImplausibleImage(
            f"The file says {scans:,} B-scans of {width:,} × {height:,} pixels; "
            f"1 to {MAX_SCANS:,} of up to {MAX_EDGE:,} × {MAX_EDGE:,} are plausible."
        )
    if height * width > MAX_SCAN_PIXELS:
        raise TooManyVoxels(
            f"The file says B-scans of {width:,} × {height:,} pixels; the limit is {MAX_SCAN_PIXELS:,}."
        )
    size = scans * height * width * sample_bytes
    if size > max_bytes:
        raise TooManyVoxels(
            f"The OCT scan is {size / 2**20:,.0f} MiB when decoded; the limit is {max_bytes / 2**20:,.0f} MiB."
        )
