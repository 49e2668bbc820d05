"""Whether a stacked volume is what the headers and files say: shape, affine and voxels."""

import numpy as np
from numpy.typing import NDArray

from shared.imaging.dicom.errors import UnusableSeries

Affine = NDArray[np.float64]
Shape = tuple[int, ...]

AGREEMENT_MM = 0.01
"""How far apart a corner may lie by dcm2niix's affine (32-bit floats) and by the headers."""
AGREEMENT_SHARE = 0.01
"""How far apart values may be, as a share of one stored step: what 32-bit floats lose."""


class Disagreement(UnusableSeries):
    """The stacked volume is not what the headers say."""

    slug, title = "header-mismatch", "The volume contradicts its headers"


def index_step(made: Affine, shape: Shape, expected: Affine, expected_shape: Shape) -> Affine:
    """(4, 4): index in the stacked volume → column, row and plane; a reordering and flips of axes, nothing else.

    Raises Disagreement, naming both, when the shapes do not match.
    """
    turned = np.linalg.inv(expected)[:3, :3] @ made[:3, :3]
    turned /= np.linalg.norm(turned, axis=0)
    axes = np.abs(turned).argmax(axis=0)
    if sorted(axes) != [0, 1, 2] or any(shape[i] != expected_shape[axis] for i, axis in enumerate(axes)):
        raise Disagreement(
            f"The stacked volume has {_times(shape)} voxels; the headers describe {_times(expected_shape)} "
            "(columns, rows, planes)."
        )
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for i, axis in enumerate(axes):
        forward = turned[axis, i] > 0
        step[axis, i] = 1 if forward else -1
        step[axis, 3] = 0 if forward else shape[i] - 1
    return step


def check_affine_agrees(made: Affine, shape: Shape, expected: Affine, *, planes_too: bool) -> None:
    """Whether the corners of the volume lie where `expected`, of the same axes, puts them.

    planes_too: False compares the first plane alone, for tilted or uneven planes, which dcm2niix's affine cannot say.
    Raises Disagreement.
    """
    extent = [shape[0] - 1, shape[1] - 1, shape[2] - 1 if planes_too else 0]
    corners = np.array(np.meshgrid(*[(0, n) for n in extent], [1], indexing="ij"), dtype=np.float64).reshape(
        4, -1
    )
    apart = float(np.linalg.norm((made @ corners - expected @ corners)[:3], axis=0).max())
    if apart > AGREEMENT_MM:
        raise Disagreement(
            f"dcm2niix puts a corner of the volume {apart:.3f} mm from where the headers put it "
            f"(its affine {_rows(made)}, theirs {_rows(expected)})."
        )


def check_plane_agrees(
    made: NDArray[np.generic], stored: NDArray[np.generic], slope: float, intercept: float
) -> None:
    """Whether a plane of the volume, (rows, columns), holds `stored` × slope + intercept. Raises Disagreement."""
    apart = np.abs(made.astype(np.float64) - (stored.astype(np.float64) * slope + intercept)).max()
    if apart > AGREEMENT_SHARE * abs(slope):
        raise Disagreement(f"The stacked volume differs from the files by up to {apart:g} in one plane.")


def as_planes(voxels: NDArray[np.generic], step: Affine) -> NDArray[np.generic]:
    """A view of the volume as (columns, rows, planes); step: as `index_step` gives."""
    axes = [int(np.abs(step[axis, :3]).argmax()) for axis in range(3)]
    flips = tuple(slice(None, None, 1 if step[axis, axes[axis]] > 0 else -1) for axis in range(3))
    return voxels.transpose(axes)[flips]


def _times(shape: Shape) -> str:
    return " × ".join(map(str, shape))


def _rows(affine: Affine) -> str:
    return "; ".join(" ".join(f"{value:.4f}" for value in row) for row in affine[:3])
