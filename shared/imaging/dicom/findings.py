"""What is wrong or worth knowing about a stack of planes.

Refusals (no volume is made, since measurements in it would be wrong):
- missing-position, missing-spacing: the headers do not say where the planes lie or how large a pixel is.
- gap: planes are missing. expected_mm is the usual distance there, actual_mm the greatest one.
- duplicate-position: several planes lie at one place and nothing in their headers tells them apart.
- conflicting-instance: files with one SOP Instance UID say different things.
- crooked: the planes do not lie along a straight line.
- mixed-scale: the planes' rescale slopes or intercepts differ.
- unsupported-pixels: colour, floating-point, 1-bit pixels, bits in another place, a modality lookup table, a mosaic.
Warnings (the volume is made, and they are kept with it):
- duplicate-instance: a file came twice; one copy is used.
- mixed-orientation, varying-size, several-acquisitions: the series holds several stacks and was divided.
- gantry-tilt: the planes are sheared by `degrees`; the volume's affine is, too, so that no voxel is moved.
- varying-spacing: the scan was planned with several distances; the volume is resampled to the least of them.
- single-slice: there is one plane; its thickness is what the header says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shared.imaging.dicom.instance import Frame, Instance
from shared.imaging.dicom.planes import Vector, heights, normal_of, positions_of, tilt_deg

Code = Literal[
    "missing-position",
    "missing-spacing",
    "gap",
    "duplicate-position",
    "conflicting-instance",
    "crooked",
    "mixed-scale",
    "unsupported-pixels",
    "duplicate-instance",
    "mixed-orientation",
    "varying-size",
    "several-acquisitions",
    "gantry-tilt",
    "varying-spacing",
    "single-slice",
]

SAME_PLACE_MM = 0.01
ROUNDING_MM = 0.11
"""Some scanners write positions to a tenth of a millimetre."""
UNEVEN = 0.03
"""Distances that differ by less than this share of the usual one are even."""
COVERED = 1.1
"""Planes adjoin when their distance is at most this multiple of their thickness."""
LEAST_ROW = 3
TILT_DEG = 0.1
CROOKED_MM = 0.5


@dataclass(frozen=True)
class Issue:
    """One finding; `detail` holds numbers only, nothing that the file's free text says."""

    code: Code
    refused: bool
    detail: str
    expected_mm: float | None = None
    actual_mm: float | None = None
    degrees: float | None = None
    count: int = 1


def geometry_issues(frames: Sequence[Frame]) -> list[Issue]:
    """What the places of planes, in order along their normal, give rise to."""
    lacking = sum(frame.position is None or frame.orientation is None for frame in frames)
    if lacking:
        what = (
            f"{lacking} of {len(frames)} planes state no position and orientation (0020,0032), (0020,0037)."
        )
        return [Issue("missing-position", True, what, count=lacking)]
    found: list[Issue] = []
    if frames[0].spacing is None:
        found.append(
            Issue("missing-spacing", True, "The headers state no plausible pixel spacing (0028,0030).")
        )
    if len(frames) == 1:
        return [
            *found,
            Issue("single-slice", False, "There is one plane; its thickness is what the header says."),
        ]
    distances = np.diff(heights(frames))
    doubled = int((distances < SAME_PLACE_MM).sum())
    if doubled:
        what = f"{doubled} planes lie where another one lies, and nothing in the headers tells them apart."
        return [*found, Issue("duplicate-position", True, what, count=doubled)]
    return [*found, *_tilt(frames), *_spacing(frames, distances)]


def is_even(distances: Vector) -> bool:
    """Whether planes at these distances make a volume as they are."""
    usual = float(np.median(distances))
    return bool((np.abs(distances - usual) <= _tolerance(usual)).all())


def pixel_issues(instances: Sequence[Instance], frames: Sequence[Frame]) -> list[Issue]:
    """What the way in which the pixels are stored gives rise to."""
    reasons = sorted({reason for instance in instances if (reason := _unusable_pixels(instance))})
    widths = {instance.pixels.bits_allocated for instance in instances if instance.pixels}
    if len(widths) > 1 and not reasons:
        reasons = ["of 8 bits in some planes and of 16 in others"]
    found = [Issue("unsupported-pixels", True, f"The pixels are {reason}.") for reason in reasons]
    if len({(frame.slope, frame.intercept) for frame in frames}) > 1:
        what = "The planes have different rescale slopes or intercepts, so their values cannot be compared."
        found.append(Issue("mixed-scale", True, what))
    return found


def _unusable_pixels(instance: Instance) -> str | None:
    pixels = instance.pixels
    if pixels is None:
        return "missing"
    if pixels.samples != 1 or not pixels.photometric.startswith("MONOCHROME"):
        return "in colour or from a palette"
    if pixels.floating or pixels.bits_allocated not in (8, 16):
        return f"of {pixels.bits_allocated} bits{' floating point' * pixels.floating}; 8 and 16 bits are read"
    if not 0 < pixels.bits_stored <= pixels.bits_allocated:
        return f"said to use {pixels.bits_stored} of {pixels.bits_allocated} bits"
    if pixels.high_bit not in (None, pixels.bits_stored - 1):
        return f"said to use {pixels.bits_stored} bits of which bit {pixels.high_bit} is the uppermost"
    if pixels.lookup:
        return "to be read through a lookup table (0028,3000)"
    return "a mosaic of several planes" if "MOSAIC" in instance.image_type else None


def _tilt(frames: Sequence[Frame]) -> list[Issue]:
    positions = positions_of(frames)
    rise = heights(frames)
    share = ((rise - rise[0]) / (rise[-1] - rise[0]))[:, None]
    aside = np.linalg.norm(positions - positions[0] - share * (positions[-1] - positions[0]), axis=1)
    if aside.max() > CROOKED_MM:
        what = f"The planes do not lie along a straight line; one is {aside.max():.1f} mm beside it."
        return [Issue("crooked", True, what, actual_mm=round(float(aside.max()), 2))]
    degrees = tilt_deg(frames)
    if degrees <= TILT_DEG:
        return []
    what = (
        f"The gantry was tilted by {degrees:.1f}°; the affine is sheared accordingly and no voxel is moved."
    )
    return [Issue("gantry-tilt", False, what, degrees=round(degrees, 2))]


def _spacing(frames: Sequence[Frame], distances: Vector) -> list[Issue]:
    if is_even(distances):
        return []
    usual, least, most = float(np.median(distances)), float(distances.min()), float(distances.max())
    missing = [at for at in range(len(distances)) if _is_gap(frames, distances, at)]
    if not missing:
        what = (
            f"The distance between planes varies from {least:.2f} to {most:.2f} mm; resampled to the least."
        )
        return [Issue("varying-spacing", False, what, round(usual, 3), round(most, 3))]
    first, usual = missing[0], min(_sides(distances, missing[0]))
    what = (
        f"Planes are missing at {len(missing)} place{'s' if len(missing) > 1 else ''}, first after plane "
        f"{first + 1} of {len(frames)}: the distance there is {distances[first]:.2f} mm, "
        f"usually {usual:.2f} mm. Send the whole series."
    )
    most = float(distances[missing].max())
    return [Issue("gap", True, what, round(usual, 3), round(most, 3), count=len(missing))]


def _is_gap(frames: Sequence[Frame], distances: Vector, at: int) -> bool:
    """Whether planes are missing after plane `at`, or whether the scan was planned so.

    Planned are three or more like distances in a row, the change from one distance to another, and planes that are
    thick enough to adjoin, unless a single wide distance stands between like ones.
    """
    here, sides = float(distances[at]), _sides(distances, at)
    row = _row_of_like(distances, at)
    if row >= LEAST_ROW or here <= float(distances.min()) + _tolerance(here):
        return False
    if row == 1 and here <= max(sides) + _tolerance(here):
        return False
    thickness = max(frames[at].thickness or 0.0, frames[at + 1].thickness or 0.0)
    alone = row == 1 and max(sides) - min(sides) <= _tolerance(min(sides))
    return alone or here > COVERED * thickness


def _row_of_like(distances: Vector, at: int) -> int:
    """How many distances in a row, with that after plane `at`, are alike."""
    like = np.abs(distances - distances[at]) <= _tolerance(float(distances[at]))
    before, after = like[:at][::-1], like[at + 1 :]
    return 1 + sum(int(np.argmin(np.append(part, False))) for part in (before, after))


def _sides(distances: Vector, at: int) -> list[float]:
    """The distances before and after that after plane `at`."""
    return [float(distances[i]) for i in (at - 1, at + 1) if 0 <= i < len(distances)] or [
        float(distances[at])
    ]


def _tolerance(distance: float) -> float:
    return max(ROUNDING_MM, UNEVEN * distance)


def same_direction(frame: Frame, other: Frame) -> bool:
    """Whether two planes are parallel and turned alike, to a milliradian."""
    if frame.orientation is None or other.orientation is None:
        return frame.orientation is other.orientation
    return bool(np.abs(np.subtract(frame.orientation, other.orientation)).max() <= 1e-3)


def obliqueness(frame: Frame) -> float:
    """How far the plane is from axial: 0 axial, 1 at right angles to it."""
    return 1.0 if frame.orientation is None else 1.0 - abs(float(normal_of(frame.orientation)[2]))
