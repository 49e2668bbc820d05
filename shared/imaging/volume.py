"""The one in-memory form of a 3D image."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D image and where it lies in the patient.

    data: (X, Y, Z), NIfTI storage order, any numeric dtype.
    affine: (4, 4) float64, voxel index → RAS+ millimetres (the nibabel convention).
    """

    data: NDArray[np.generic]
    affine: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each storage axis."""
        x, y, z = self.data.shape
        return x, y, z

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel edge lengths in mm along the storage axes."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres, right for oblique and sheared grids."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def same_grid(self, other: "Volume", tolerance_mm: float = 1e-2) -> bool:
        """Whether both have the same shape and every corner lies within `tolerance_mm` of its twin."""
        if self.shape != other.shape:
            return False
        extent = np.array(self.shape) - 1
        corners = np.array(np.meshgrid(*[(0, n) for n in extent], [1], indexing="ij")).reshape(4, -1)
        apart = np.linalg.norm((self.affine @ corners - other.affine @ corners)[:3], axis=0)
        return bool(apart.max() <= tolerance_mm)
