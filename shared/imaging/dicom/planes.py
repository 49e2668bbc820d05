"""Where a stack of planes lies in the patient, from headers alone; all vectors in mm, LPS+ as DICOM writes them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.imaging.dicom.instance import Frame, Six
from shared.imaging.geometry import LPS

Vector = NDArray[np.float64]


def normal_of(orientation: Six) -> Vector:
    """The unit normal of a plane: row direction × column direction."""
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def positions_of(frames: Sequence[Frame]) -> Vector:
    """(N, 3) positions of the first pixel of each plane; all frames must have one."""
    return np.array([frame.position for frame in frames], dtype=np.float64).reshape(-1, 3)


def heights(frames: Sequence[Frame]) -> Vector:
    """(N,) distances of the planes along the normal of the first."""
    orientation = frames[0].orientation
    if orientation is None:
        raise ValueError("the planes have no orientation")
    return positions_of(frames) @ normal_of(orientation)


def mean_step(frames: Sequence[Frame]) -> Vector:
    """(3,) from one plane to the next; for a single plane its thickness along the normal, or 1 mm."""
    first = frames[0]
    if len(frames) > 1:
        positions = positions_of(frames)
        return np.asarray((positions[-1] - positions[0]) / (len(frames) - 1))
    if first.orientation is None:
        raise ValueError("the plane has no orientation")
    return normal_of(first.orientation) * abs(first.between or first.thickness or 1.0)


def tilt_deg(frames: Sequence[Frame]) -> float:
    """The angle between the normal and the way from plane to plane: 0 unless the gantry was tilted."""
    if len(frames) < 2 or frames[0].orientation is None:
        return 0.0
    step = mean_step(frames)
    along = abs(float(step @ normal_of(frames[0].orientation)))
    across = float(np.linalg.norm(np.cross(step, normal_of(frames[0].orientation))))
    return float(np.degrees(np.arctan2(across, along)))


def aside_mm(frames: Sequence[Frame]) -> float:
    """How far the last plane lies from the normal through the first."""
    positions = positions_of((frames[0], frames[-1]))
    if frames[0].orientation is None:
        return 0.0
    return float(np.linalg.norm(np.cross(positions[1] - positions[0], normal_of(frames[0].orientation))))


def header_affine(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """(4, 4): column, row and slice index → RAS+ mm, as the headers of evenly spaced planes say.

    A tilted gantry makes it a sheared affine: no voxel is moved.
    """
    first = frames[0]
    if first.orientation is None or first.spacing is None or first.position is None:
        raise ValueError("the planes have no geometry")
    affine = np.eye(4)
    affine[:3, 0] = np.multiply(first.orientation[:3], first.spacing[1])
    affine[:3, 1] = np.multiply(first.orientation[3:], first.spacing[0])
    affine[:3, 2] = mean_step(frames)
    affine[:3, 3] = first.position
    return np.asarray(LPS @ affine)
