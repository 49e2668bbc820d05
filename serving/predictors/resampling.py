"""Between any grid and a patient-aligned working grid, through the affines. Positions are RAS+ mm."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from serving.predictors.base import InvalidInput

POINTS_PER_BLOCK = 2_000_000


@dataclass(frozen=True)
class Grid:
    """A voxel lattice: `shape` (X, Y, Z) and `affine` (4, 4), voxel index → RAS+ mm."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]


def working_grid(
    foreground: NDArray[np.bool_], affine: NDArray[np.float64], spacing_mm: float, max_extent_mm: float
) -> Grid:
    """The isotropic RAS-aligned grid that just covers the foreground, with a rim of one voxel.

    foreground: (X, Y, Z) with at least one True; affine: its voxel → RAS+ mm, oblique or sheared.
    Raises InvalidInput where the foreground is longer than `max_extent_mm` along an axis.
    """
    voxels = np.argwhere(foreground) @ affine[:3, :3].T + affine[:3, 3]
    low, high = voxels.min(axis=0) - spacing_mm, voxels.max(axis=0) + spacing_mm
    if np.any(high - low > max_extent_mm):
        raise InvalidInput(
            f"the image spans {np.max(high - low):.0f} mm; a head is at most {max_extent_mm:.0f} mm"
        )
    x, y, z = (int(n) for n in np.ceil((high - low) / spacing_mm) + 1)
    target = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    target[:3, 3] = low
    return Grid((x, y, z), target)


def to_grid(image: NDArray[np.float32], affine: NDArray[np.float64], grid: Grid) -> Tensor:
    """Trilinear values (X, Y, Z) float32 of `image` on `grid`, zero outside it.

    Axes sampled more than twice as finely as the grid are smoothed first, against aliasing.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    ratio = grid.affine[0, 0] / spacing
    if np.any(ratio > 2):
        image = ndimage.gaussian_filter(image, np.where(ratio > 2, 0.4 * ratio, 0.0))
    source = torch.from_numpy(np.ascontiguousarray(image))[None]
    voxels = np.indices(grid.shape, dtype=np.float32).reshape(3, -1).T
    return _sample(source, voxels, np.linalg.inv(affine) @ grid.affine).reshape(grid.shape)


def at_voxels(
    values: Tensor, grid: Grid, voxels: NDArray[np.int64], affine: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Trilinear values (C, N) of (C, *grid.shape) at voxels (N, 3) of another lattice with `affine`."""
    found = _sample(values, voxels, np.linalg.inv(grid.affine) @ affine)
    return np.asarray(found.numpy(), dtype=np.float32)


def _sample(values: Tensor, voxels: NDArray[np.generic], transform: NDArray[np.float64]) -> Tensor:
    """Values (C, N) of (C, X, Y, Z) at `transform` (voxel → voxel) of each of (N, 3); blocks bound memory."""
    matrix = torch.from_numpy(transform).float()
    size = torch.tensor(values.shape[1:], dtype=torch.float32)
    blocks = []
    for first in range(0, len(voxels), POINTS_PER_BLOCK):
        block = torch.from_numpy(voxels[first : first + POINTS_PER_BLOCK])
        points = block.float() @ matrix[:3, :3].T + matrix[:3, 3]
        # Half-voxel convention: also right for an axis of one voxel. grid_sample wants the last axis first.
        where = ((2 * points + 1) / size - 1).flip(-1)[None, :, None, None, :]
        blocks.append(functional.grid_sample(values[None], where, align_corners=False)[0, :, :, 0, 0])
    return torch.cat(blocks, dim=1)
