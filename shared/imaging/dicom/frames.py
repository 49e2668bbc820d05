"""Where each frame lies: from the top of the header, or from the functional groups of Enhanced files."""

import math
from typing import cast

from shared.imaging.dicom.errors import DamagedDicom
from shared.imaging.dicom.instance import ENHANCED, Frame, Six, Triple
from shared.imaging.dicom.values import Values, named

_POSITION, _ORIENTATION, _SPACING, _THICKNESS = 0x00200032, 0x00200037, 0x00280030, 0x00180050
_BETWEEN, _SLOPE, _INTERCEPT, _ECHO = 0x00180088, 0x00281053, 0x00281052, 0x00180081
_EFFECTIVE_ECHO, _TIME_INDEX, _FRAME_TYPE = 0x00189082, 0x00209128, 0x00089007
_TIMING_TAGS = frozenset({0x00180080, 0x00181314, 0x00189079})
FRAME_TAGS = _TIMING_TAGS | {
    *(_POSITION, _ORIENTATION, _SPACING, _THICKNESS, _BETWEEN, _SLOPE, _INTERCEPT, _ECHO),
    *(_EFFECTIVE_ECHO, _TIME_INDEX, _FRAME_TYPE),
}

_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_GROUPS = (
    0x00209113,  # plane position
    0x00209116,  # plane orientation
    0x00289110,  # pixel measures
    0x00289145,  # pixel value transformation
    0x00209111,  # frame content
    0x00189112,  # MR timing
    0x00189114,  # MR echo
    0x00189115,  # MR modifier
    0x00189226,  # MR image frame type
    0x00189329,  # CT image frame type
)
SEQUENCES = frozenset({_SHARED, _PER_FRAME, *_GROUPS})

EDGE_MM = (0.001, 100.0)
UNIT_TOLERANCE = 0.01


def frame_values(of: Values, sop_class: str, count: int) -> list[Values]:
    """The elements that describe each plane; those of the file itself when it is one plane; none when unknown.

    Raises DamagedDicom when an Enhanced file describes more or fewer frames than it has.
    """
    per_frame = of.items(_PER_FRAME)
    if not per_frame or (sop_class not in ENHANCED and len(per_frame) != count):
        return [of] if count == 1 else []
    if len(per_frame) != count:
        raise DamagedDicom(f"The header describes {len(per_frame):,} frames; the image has {count:,}.")
    shared = of.merged(_groups(of.items(_SHARED)[:1]))
    return [shared.merged(_groups([item])) for item in per_frame]


def read_frame(number: int, of: Values) -> Frame:
    """One plane. Raises DamagedDicom when a position, direction, spacing or scale cannot be one."""
    scale = of.numbers(_SLOPE, 1), of.numbers(_INTERCEPT, 1)
    echo = of.number(_ECHO)
    return Frame(
        number=number,
        position=cast(Triple | None, of.numbers(_POSITION, 3)),
        orientation=_orientation(of),
        spacing=_spacing(of),
        thickness=of.number(_THICKNESS) or None,
        between=of.number(_BETWEEN) or None,
        slope=_scale(scale[0][0]) if scale[0] else 1.0,
        intercept=scale[1][0] if scale[1] else 0.0,
        echo_ms=of.double(_EFFECTIVE_ECHO) if echo is None else echo,
        time_index=of.long(_TIME_INDEX),
        image_type=tuple(part.upper() for part in of.texts(_FRAME_TYPE)[:16]),
    )


def _groups(items: list[Values]) -> list[Values]:
    return [inner for item in items for tag in _GROUPS for inner in item.items(tag)[:1]]


def _orientation(of: Values) -> Six | None:
    numbers = of.numbers(_ORIENTATION, 6)
    if numbers is None:
        return None
    row, column = numbers[:3], numbers[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    across = sum(a * b for a, b in zip(row, column, strict=True))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(across)) > UNIT_TOLERANCE:
        raise DamagedDicom(f"{named(_ORIENTATION)} is not two unit vectors at right angles.")
    return cast(Six, numbers)


def _spacing(of: Values) -> tuple[float, float] | None:
    numbers = of.numbers(_SPACING, 2)
    if numbers is None:
        return None
    plausible = all(EDGE_MM[0] <= number <= EDGE_MM[1] for number in numbers)
    return cast(tuple[float, float], numbers) if plausible else None


def _scale(slope: float) -> float:
    if slope == 0:
        raise DamagedDicom(f"{named(_SLOPE)} is 0, which would make every voxel the same.")
    return slope
