"""Reads what dcm2niix wrote: our own NIfTI-1 file from a moment ago, so with little ceremony, and planes of one, too."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.imaging.dicom.errors import DamagedDicom
from shared.imaging.nifti_fields import header_dtype

_DTYPES = {
    2: np.uint8,
    4: np.int16,
    8: np.int32,
    16: np.float32,
    256: np.int8,
    512: np.uint16,
    768: np.uint32,
}


@dataclass(frozen=True, eq=False)
class Stacked:
    """voxels: (X, Y, Z), as stored, the pages of the file at `path`: writing to them writes to it. affine: (4, 4),
    voxel → RAS+ mm. value = stored × slope + intercept."""

    path: Path
    voxels: NDArray[np.generic]
    affine: NDArray[np.float64]
    slope: float
    intercept: float


def read_stacked(path: Path) -> Stacked:
    """The volume at `path`. Raises DamagedDicom when it is not 3D or cut off.

    The voxels are the file's own pages, still in memory, and stay when it is deleted: reading a large volume into
    new ones takes longer than stacking it did.
    """
    with path.open("rb") as file:
        block = file.read(348)
    if len(block) < 348:
        raise DamagedDicom("dcm2niix wrote a volume that is cut off.")
    header = np.frombuffer(block, header_dtype(348, "<"))[0]
    dimensions = [int(n) for n in header["dim"]]
    dtype = _DTYPES.get(int(header["datatype"]))
    if dtype is None or dimensions[0] not in (2, 3) or min(dimensions[1:4]) < 1:
        raise DamagedDicom("dcm2niix made something else of these images than one volume.")
    x, y, z = dimensions[1:4]
    offset = int(header["vox_offset"])
    if path.stat().st_size < offset + x * y * z * np.dtype(dtype).itemsize:
        raise DamagedDicom("dcm2niix wrote a volume that is cut off.")
    voxels = np.asarray(np.memmap(path, dtype, "r+", offset, (x, y, z), order="F"))
    affine = np.eye(4)
    affine[:3] = header["srow"]
    slope = float(header["scl_slope"]) or 1.0
    return Stacked(path, voxels, affine, slope, float(header["scl_inter"]))
