"""Moving volumes between grids without moving the patient: reorient, resample, convert, register."""

from itertools import permutations
from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.imaging.volume import Volume

Order = Literal["linear", "nearest"]
INTERPOLATORS = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS+ millimetres (NIfTI, ours) ↔ LPS+ millimetres (DICOM, ITK); its own inverse."""
_ORDERS = list(permutations(range(3)))


def storage_axes(affine: NDArray[np.float64]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Which storage axis runs closest to right, anterior and superior, and its sign there (+1 or −1)."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    fits = [sum(abs(columns[world, order[world]]) for world in range(3)) for order in _ORDERS]
    x, y, z = _ORDERS[int(np.argmax(np.round(fits, 9)))]  # rounded, so that ties at 45° do not hang on noise
    right, anterior, superior = (1 if columns[w, a] >= 0 else -1 for w, a in enumerate((x, y, z)))
    return (x, y, z), (right, anterior, superior)


def to_canonical(volume: Volume) -> Volume:
    """The same voxels in the axis order closest to RAS+: transposed and flipped, never resampled (a view)."""
    axes, signs = storage_axes(volume.affine)
    data = volume.data.transpose(axes)
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for world, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        step[axis, world] = sign
        step[axis, 3] = 0 if sign > 0 else volume.shape[axis] - 1
    flips = tuple(slice(None, None, sign) for sign in signs)
    return Volume(data[flips], volume.affine @ step)


def to_sitk(volume: Volume) -> sitk.Image:
    """The SimpleITK image of `volume`, in ITK's LPS+ frame."""
    image = _index_image(volume.data)
    affine = LPS @ volume.affine
    image.SetSpacing(volume.spacing)
    direction = np.round(affine[:3, :3] / volume.spacing, 12) + 0.0  # ITK's SVD stumbles over 1e-17 and −0
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def from_sitk(image: sitk.Image) -> Volume:
    """The volume of a 3D scalar SimpleITK image."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image).transpose(2, 1, 0), LPS @ affine)


def resample_to(volume: Volume, reference: Volume, order: Order) -> Volume:
    """`volume` on the grid of `reference`, each voxel read at the same point of the patient; 0 outside.

    linear gives float32, nearest keeps the type. Use nearest for label maps.
    """
    return resample_through(volume, reference, np.eye(4), order)


def resample_through(
    moving: Volume, reference: Volume, moving_from_reference: NDArray[np.float64], order: Order
) -> Volume:
    """As `resample_to`, reading `moving` at `moving_from_reference` (4, 4; RAS+ mm → RAS+ mm) of each point.

    Works from index to index in one affine step, so oblique, flipped and sheared grids need no special case.
    """
    index_step = np.linalg.inv(moving.affine) @ moving_from_reference @ reference.affine
    index_step = np.where(np.abs(index_step - np.round(index_step)) < 1e-7, np.round(index_step), index_step)
    transform = sitk.AffineTransform(index_step[:3, :3].ravel().tolist(), index_step[:3, 3].tolist())
    data = moving.data.astype(np.float32, copy=False) if order == "linear" else moving.data
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(reference.shape)
    resampler.SetTransform(transform)
    resampler.SetInterpolator(INTERPOLATORS[order])
    result = sitk.GetArrayFromImage(resampler.Execute(_index_image(data)))
    return Volume(result.transpose(2, 1, 0), reference.affine)


def isotropic_grid(volume: Volume, spacing_mm: float) -> Volume:
    """An empty RAS+ grid of cubic voxels that spans `volume` along its closest canonical axes."""
    canonical = to_canonical(volume)
    shape = [
        max(1, round(n * s / spacing_mm)) for n, s in zip(canonical.shape, canonical.spacing, strict=True)
    ]
    step = np.diag([n / m for n, m in zip(canonical.shape, shape, strict=True)] + [1.0])
    step[:3, 3] = (np.diag(step)[:3] - 1) / 2  # keep the outer faces, not the first centre, in place
    return Volume(np.broadcast_to(np.uint8(0), shape), canonical.affine @ step)


def _index_image(data: NDArray[np.generic]) -> sitk.Image:
    """The voxels as a SimpleITK image whose frame is the storage index itself."""
    if data.dtype == np.bool_:
        data = data.astype(np.uint8)
    return sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)))
