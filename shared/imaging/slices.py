"""Flat pictures of a volume as a radiologist hangs them, and the choice of the slices worth showing."""

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import Invalid
from shared.imaging.foreground import Foreground, find_foreground
from shared.imaging.geometry import storage_axes, to_canonical
from shared.imaging.volume import Volume

T = TypeVar("T", bound=np.generic)
Axis = Literal["sagittal", "coronal", "axial"]
AXES: tuple[Axis, Axis, Axis] = ("sagittal", "coronal", "axial")
SMOOTHING_MM = 4.0
GAP_MM = 8.0
"""Least distance between two chosen slices: nearer ones show the same thing."""


def slice_axis(volume: Volume, axis: Axis = "axial") -> int:
    """The storage axis along which `index` counts: the one closest to the plane's normal."""
    return storage_axes(volume.affine)[0][AXES.index(axis)]


def slice_count(volume: Volume, axis: Axis = "axial") -> int:
    """How many slices there are in that plane."""
    return volume.shape[slice_axis(volume, axis)]


def display_slice(volume: Volume, index: int, axis: Axis = "axial") -> NDArray[np.float32]:
    """Slice `index` (in storage order along `slice_axis`) as viewed: (H, W) float32, square pixels.

    Radiological: the patient's right is on the left. axial: row 0 anterior, column 0 right; coronal: row 0
    superior, column 0 right; sagittal: row 0 superior, column 0 anterior. Pixels have the finer edge.
    """
    return np.asarray(_square(volume, index, axis, Image.Resampling.BILINEAR, np.float32), dtype=np.float32)


def mask_slice(label_map: Volume, index: int, axis: Axis = "axial") -> NDArray[np.int32]:
    """The twin of `display_slice` for a label map: (H, W) int32, nearest neighbour, the same pixels."""
    return np.asarray(_square(label_map, index, axis, Image.Resampling.NEAREST, np.int32), dtype=np.int32)


def pixel_mm(volume: Volume, axis: Axis = "axial") -> float:
    """Edge of a pixel of `display_slice`, mm."""
    return min(_plane_spacing(volume, axis))


def representative_slices(volume: Volume, count: int = 1) -> list[int]:
    """The `count` axial slices most likely to show a tumour, best first, as indices for `display_slice`.

    No model: a slice scores by how much of its brain differs from its mirror image or stands out brightly,
    both on the smoothed scan, so that broad one-sided change counts and fine texture does not. Deterministic.
    """
    if count < 1:
        raise Invalid("At least one slice must be asked for.")
    coarse = find_foreground(volume)
    axis, total = slice_axis(volume), slice_count(volume)
    flipped = storage_axes(volume.affine)[1][2] < 0
    gap = max(1, round(GAP_MM / (volume.spacing[axis] * coarse.steps[2])))
    chosen = [min(int(k) * coarse.steps[2], total - 1) for k in _spread(slice_scores(coarse), count, gap)]
    return [total - 1 - k if flipped else k for k in chosen]


def slice_scores(coarse: Foreground) -> NDArray[np.float64]:
    """Per coarse axial slice, bottom to top: how much conspicuous tissue it has, times its share of brain.

    The second factor holds back the skull base, where healthy anatomy is lopsided.
    """
    smooth = coarse.smooth(coarse.data, SMOOTHING_MM)
    inside = smooth[coarse.brain]
    low, middle, high = np.percentile(inside, [25, 50, 75])
    spread = max(float(high - low), 0.05 * abs(float(middle)), 1e-6)  # flat tissue must not amplify noise
    mirrored, both = _mirror(smooth, coarse.brain)
    core = coarse.depth_mm > SMOOTHING_MM
    asymmetry = np.where(both & core, np.abs(smooth - mirrored) / spread, 0)
    bright = np.where(core, (smooth - middle) / spread, 0)
    conspicuous = np.maximum(asymmetry - 0.75, 0) + np.maximum(bright - 1.5, 0)
    area = coarse.brain.sum(axis=(0, 1))
    return np.asarray(np.minimum(conspicuous, 3).sum(axis=(0, 1)) * area / area.max(), dtype=np.float64)


def _mirror(
    image: NDArray[np.float32], brain: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """`image` reflected in the brain's middle sagittal plane, and where both sides have brain."""
    columns = np.arange(image.shape[0])
    middle = float(np.average(columns, weights=brain.sum(axis=(1, 2))))
    source = np.round(2 * middle - columns).astype(int)
    inside = (source >= 0) & (source < image.shape[0])
    source = np.where(inside, source, 0)
    return image[source], brain & brain[source] & inside[:, None, None]


def _spread(scores: NDArray[np.float64], count: int, gap: int) -> list[int]:
    """Indices by falling score, at least `gap` apart while that is possible."""
    order = [int(k) for k in np.argsort(-scores, kind="stable")]
    chosen: list[int] = []
    for least in (gap, 1):
        for k in order:
            if len(chosen) < count and all(abs(k - other) >= least for other in chosen):
                chosen.append(k)
    return chosen


def plane_of(data: NDArray[T], index: int, axis: int) -> NDArray[T]:
    """One plane of a 3D array, as a view: np.take would copy an array in NIfTI's memory order whole."""
    return data[(slice(None),) * axis + (index,)]


def _plane_spacing(volume: Volume, axis: Axis) -> tuple[float, float]:
    spacing = to_canonical(volume).spacing
    first, second = (world for world in range(3) if world != AXES.index(axis))
    return spacing[first], spacing[second]


def _square(
    volume: Volume, index: int, axis: Axis, resampling: Image.Resampling, dtype: type[np.generic]
) -> Image.Image:
    total = slice_count(volume, axis)
    if not 0 <= index < total:
        raise Invalid(f"There is no {axis} slice {index}; the slices are 0 to {total - 1}.")
    plane = plane_of(volume.data, index, slice_axis(volume, axis))
    picture = _hang(plane, volume, axis).astype(dtype)
    across, down = _plane_spacing(volume, axis)
    edge = min(across, down)
    height, width = picture.shape
    size = (max(1, round(width * across / edge)), max(1, round(height * down / edge)))
    return Image.fromarray(np.ascontiguousarray(picture)).resize(size, resampling)


def _hang(plane: NDArray[np.generic], volume: Volume, axis: Axis) -> NDArray[np.generic]:
    """A storage plane turned so that rows run down and columns run to the viewer's right.

    The two world axes that lie in the plane are (R, A), (R, S) or (A, S); the viewer's first row and column
    show their positive end (anterior or superior on top; the patient's right, or the face, on the left).
    """
    axes, signs = storage_axes(volume.affine)
    first, second = (world for world in range(3) if world != AXES.index(axis))
    picture = plane.T if axes[first] < axes[second] else plane
    return picture[:: -signs[second], :: -signs[first]]
