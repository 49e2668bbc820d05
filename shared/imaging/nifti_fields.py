"""The NIfTI-1 and NIfTI-2 header layouts and their quaternions, after the standard (nifti.nimh.nih.gov).

Only the fields that place and type voxels are named: the free-text ones can then neither leak nor be written.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

ByteOrder = Literal["<", ">"]

HEADER_SIZES = (348, 540)

# (field, format and byte offset in NIfTI-1, format and byte offset in NIfTI-2)
_FIELDS = (
    ("sizeof_hdr", "i4", 0, "i4", 0),
    ("magic", "S4", 344, "S8", 4),
    ("dim", "8i2", 40, "8i8", 16),
    ("datatype", "i2", 70, "i2", 12),
    ("bitpix", "i2", 72, "i2", 14),
    ("pixdim", "8f4", 76, "8f8", 104),
    ("vox_offset", "f4", 108, "i8", 168),
    ("scl_slope", "f4", 112, "f8", 176),
    ("scl_inter", "f4", 116, "f8", 184),
    ("xyzt_units", "u1", 123, "i4", 500),
    ("qform_code", "i2", 252, "i4", 344),
    ("sform_code", "i2", 254, "i4", 348),
    ("quaternion", "3f4", 256, "3f8", 352),
    ("qoffset", "3f4", 268, "3f8", 376),
    ("srow", "(3,4)f4", 280, "(3,4)f8", 400),
)


def header_dtype(size: int, order: ByteOrder) -> np.dtype[np.void]:
    """The record type of a header of `size` bytes."""
    first = 1 if size == HEADER_SIZES[0] else 3
    return np.dtype(
        {
            "names": [str(field[0]) for field in _FIELDS],
            "formats": [_ordered(str(field[first]), order) for field in _FIELDS],
            "offsets": [int(field[first + 1]) for field in _FIELDS],
            "itemsize": size,
        }
    )


def _ordered(code: str, order: ByteOrder) -> str:
    """numpy wants the byte order after the shape: `(3,4)<f4`, `8<i2`."""
    return f"{code[:-2]}{order}{code[-2:]}"


def rotation_from_quaternion(bcd: NDArray[np.float64]) -> NDArray[np.float64]:
    """The (3, 3) rotation of the unit quaternion with parts `bcd`; NaN when their norm is over 1."""
    norm = float(bcd @ bcd)
    if abs(1.0 - norm) < 1e-6:  # a half turn, to the precision of float32
        a, bcd = 0.0, bcd / np.sqrt(norm)
    else:
        a = float(np.sqrt(1.0 - norm)) if norm < 1.0 else np.nan
    b, c, d = (float(part) for part in bcd)
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


def quaternion_from_rotation(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """The parts b, c, d of the unit quaternion (a ≥ 0) of a proper (3, 3) rotation.

    The quaternion is the top eigenvector of Bar-Itzhack's symmetric matrix (2000), stable for every angle.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    symmetric = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    quaternion = np.linalg.eigh(symmetric)[1][:, -1]
    signed = -quaternion if quaternion[0] < 0 else quaternion
    return np.asarray(signed[1:], dtype=np.float64)
