"""A coarse look at a head scan: where the tissue is and how deep each voxel lies in it."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.errors import Invalid
from shared.imaging.geometry import to_canonical, to_sitk
from shared.imaging.volume import Volume

COARSE_MM = 2.0
STRIPPED_ZEROS = 0.3
"""From this share of exact zeros on, the background was cut away and every other voxel is tissue."""
LARGEST_BRAIN_ML = 2000.0
"""More tissue than this is a head with skull and skin, not a brain."""
SCALP_MM = 18.0
"""Scalp, skull and the space below them, an adult's at the vertex."""
FEWEST_VOXELS = 1000


@dataclass(frozen=True)
class Foreground:
    """A scan thinned to about 2 mm, in the axis order closest to RAS+.

    data: (X, Y, Z) float32. brain: (X, Y, Z) bool, approximate when the skull is on.
    depth_mm: (X, Y, Z) float32, distance to the brain's surface.
    steps: storage voxels per coarse voxel along each canonical axis.
    """

    data: NDArray[np.float32]
    brain: NDArray[np.bool_]
    depth_mm: NDArray[np.float32]
    affine: NDArray[np.float64]
    steps: tuple[int, int, int]
    skull_on: bool

    def smooth(self, image: NDArray[np.float32], sigma_mm: float) -> NDArray[np.float32]:
        """`image` (X, Y, Z) averaged within the brain by a Gaussian."""
        weight = self._blur(self.brain.astype(np.float32), sigma_mm)
        total = self._blur(np.where(self.brain, image, 0).astype(np.float32), sigma_mm)
        return np.asarray(total / np.maximum(weight, 0.1), dtype=np.float32)

    def _blur(self, image: NDArray[np.float32], sigma_mm: float) -> NDArray[np.float32]:
        blurred = sitk.DiscreteGaussian(to_sitk(Volume(image, self.affine)), variance=[sigma_mm**2] * 3)
        return np.asarray(sitk.GetArrayFromImage(blurred).transpose(2, 1, 0), dtype=np.float32)


def find_foreground(volume: Volume) -> Foreground:
    """The coarse view of `volume`. Raises Invalid when hardly any tissue is found."""
    canonical = to_canonical(volume)
    x, y, z = (max(1, round(COARSE_MM / s)) for s in canonical.spacing)
    data = canonical.data[::x, ::y, ::z].astype(np.float32)
    affine = canonical.affine @ np.diag([x, y, z, 1.0])
    thin = Volume(data, affine)
    head = data != 0 if np.mean(data == 0) > STRIPPED_ZEROS else _filled(data > _otsu(thin))
    skull_on = bool(head.sum() * thin.voxel_ml > LARGEST_BRAIN_ML)
    depth = _depth_mm(Volume(head.astype(np.uint8), affine)) - (SCALP_MM if skull_on else 0.0)
    brain = depth > 0
    if brain.sum() < FEWEST_VOXELS:
        raise Invalid("Hardly any tissue is visible in the image; a scan of a whole brain is needed.")
    return Foreground(data, brain, depth, affine, (x, y, z), skull_on)


def _otsu(volume: Volume) -> float:
    """The intensity that best parts air from tissue (Otsu 1979)."""
    method = sitk.OtsuThresholdImageFilter()
    method.SetNumberOfHistogramBins(64)
    method.Execute(to_sitk(volume))
    return float(method.GetThreshold())


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`mask` with the holes of each axial slice (sinuses, dark skull) closed."""
    slices = [
        sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(mask[:, :, k].astype(np.uint8))))
        for k in range(mask.shape[2])
    ]
    return np.stack(slices, axis=2) > 0


def _depth_mm(mask: Volume) -> NDArray[np.float32]:
    distance = sitk.SignedMaurerDistanceMap(
        to_sitk(mask), insideIsPositive=True, squaredDistance=False, useImageSpacing=True
    )
    return np.asarray(sitk.GetArrayFromImage(distance).transpose(2, 1, 0), dtype=np.float32)
