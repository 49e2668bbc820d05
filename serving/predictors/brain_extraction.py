"""Is the skull still on, and where is the brain: deepbet's two networks on a T1-weighted scan.

Fisch L. et al. deepbet: Fast brain extraction of T1-weighted MRI using Convolutional Neural Networks.
Computers in Biology and Medicine 179 (2024) 108845. Networks and weights: PyPI `deepbet` 1.0.2, MIT licence.

Only the two weight files of that package are used. Its own code reads files and brings a window toolkit and
pandas; what it does to an image before and after the networks is done here instead, in patient space, so that any
orientation and slice thickness will do. The files are TorchScript: loading them runs no Python and unpickles
nothing but tensors, yet TorchScript is a program, so only the very files that were looked at are loaded (SHA256).
"""

import warnings
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from serving.predictors.base import InvalidInput
from serving.predictors.package import InvalidPackage, sha256_of
from serving.predictors.resampling import Grid
from shared.imaging.foreground import STRIPPED_ZEROS
from shared.imaging.geometry import resample_to
from shared.imaging.volume import Volume

LEAST_BRAIN_ML, MOST_BRAIN_ML = 700.0, 2200.0
"""Beyond these no adult's brain lies, fluid around it included."""
SHA256 = {
    "bbox_model.pt": "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
    "model.pt": "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
}
LARGEST_SCAN_MM = 500.0
"""A scan that is longer does not state its spacing in mm."""
COARSE, FINE = 128, 256
"""Voxels along each edge of the boxes that the two networks were trained on."""
WINDOW = (0.005, 0.995)
MARGIN = 0.1
"""What a box is larger than what was found in the one before, on every side."""
SPARSE = 0.02
"""A plane of a box belongs to what was found from this share on."""
TISSUE = 0.1
"""Share of the window above which a voxel is no air."""
LEAST_AGREEMENT = 0.85
"""Dice of the two networks' brains. Measured: 0.94 to 0.98 on heads of any tilt and sequence, below 0.7 on noise."""
NO_BRAIN = "the images are not skull-stripped and no brain was found in T1"

Box = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Lowest and highest corner, RAS+ mm."""


@dataclass(frozen=True)
class Networks:
    """The locating and the outlining network."""

    locate: nn.Module
    outline: nn.Module
    device: torch.device

    @torch.inference_mode()
    def chance(self, network: nn.Module, image: Volume, low: float, high: float) -> NDArray[np.float32]:
        """Probability of brain (X, Y, Z), with intensities clipped and scaled as in the networks' training."""
        values = torch.from_numpy(np.array(image.data, dtype=np.float32)).to(self.device)
        values = ((values - low) / (high - low)).clamp(0, 1)
        values = 0.226 * (values - values.mean()) / values.std() + 0.449
        return np.asarray(network(values[None, None])[0, 1].cpu().numpy(), dtype=np.float32)


def skull_is_on(volume: Volume) -> bool:
    """Whether more than a brain is visible: air that is not cut away, or more tissue than any brain has.

    In a skull-stripped image everything but the brain is exactly 0, and the brain, egg-shaped, leaves close to half
    of even the tightest box empty. Zeros inside the brain do not matter.
    """
    zeros = float(np.mean(volume.data == 0))
    tissue_ml = np.count_nonzero(volume.data) * volume.voxel_ml
    return zeros <= STRIPPED_ZEROS or bool(tissue_ml > MOST_BRAIN_ML)


def brain_mask(t1: Volume) -> NDArray[np.bool_]:
    """The brain (X, Y, Z) on the grid of `t1`, a T1-weighted scan without contrast agent of an adult's whole head.

    Raises InvalidInput where no brain is found, or one of a volume that no adult's brain has.
    """
    networks = load_networks()
    # From zero up, so that what lies outside the scan, read as 0, is air.
    scan = Volume(t1.data.astype(np.float32) - np.float32(t1.data.min()), t1.affine)
    coarse = _head(scan)
    low, high = _window(coarse)
    if high <= low:
        raise InvalidInput(f"{NO_BRAIN}: the image is flat")
    located = _largest(networks.chance(networks.locate, coarse, low, high) > 0.5)
    fine = _sampled(scan, _lattice(_box_around(located, coarse), FINE))
    outlined = _largest(networks.chance(networks.outline, fine, low, high) > 0.5)
    brain = Volume(ndimage.binary_fill_holes(outlined).astype(np.float32), fine.affine)
    _check(brain, Volume(located.astype(np.float32), coarse.affine))
    return np.asarray(resample_to(brain, t1, "linear").data.astype(np.float32) > 0.5)


def _check(brain: Volume, located: Volume) -> None:
    """Raises InvalidInput where the outlined brain is no adult's, or not what the locating network saw."""
    millilitres = np.count_nonzero(brain.data) * brain.voxel_ml
    if not LEAST_BRAIN_ML <= millilitres <= MOST_BRAIN_ML:
        raise InvalidInput(
            f"{NO_BRAIN}: what looks like one has {millilitres:.0f} ml, "
            f"a brain has {LEAST_BRAIN_ML:.0f} to {MOST_BRAIN_ML:.0f} ml"
        )
    first, second = brain.data != 0, resample_to(located, brain, "linear").data.astype(np.float32) > 0.5
    both = np.count_nonzero(first) + np.count_nonzero(second)
    if 2 * np.count_nonzero(first & second) < LEAST_AGREEMENT * both:
        raise InvalidInput(f"{NO_BRAIN}: what looks like one at a glance does not when looked at closely")


@cache
def load_networks() -> Networks:
    """deepbet's networks, read once per process. Raises InvalidPackage where its files are missing or others."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Networks(_network("bbox_model.pt", device), _network("model.pt", device), device)


def _network(name: str, device: torch.device) -> nn.Module:
    try:
        path = Path(str(distribution("deepbet").locate_file(f"data/models/{name}")))
    except PackageNotFoundError as error:
        raise InvalidPackage("brain extraction needs the Python package deepbet") from error
    if not path.is_file() or sha256_of(path) != SHA256[name]:
        raise InvalidPackage(f"brain extraction: deepbet's {name} is not the file of version 1.0.2")
    with warnings.catch_warnings():  # PyTorch would rather have torch.export; deepbet ships TorchScript
        warnings.filterwarnings("ignore", message=".*torch.jit.load", category=DeprecationWarning)
        network: nn.Module = torch.jit.load(path, map_location=device)
    return network.eval()


def _corners(volume: Volume) -> Box:
    """The RAS-aligned box around all voxels, to their outer faces."""
    ends = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in volume.shape], indexing="ij")).reshape(3, -1).T
    world = ends @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return world.min(axis=0), world.max(axis=0)


def _lattice(box: Box, edge: int) -> Grid:
    """`edge` voxels along every side of the box, whatever its proportions: the networks' idea of a head."""
    low, high = box
    size = (high - low) / edge
    affine = np.diag([*size, 1.0])
    affine[:3, 3] = low + size / 2
    return Grid((edge, edge, edge), affine)


def _sampled(scan: Volume, grid: Grid) -> Volume:
    return resample_to(scan, Volume(np.broadcast_to(np.uint8(0), grid.shape), grid.affine), "linear")


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest piece of `mask`, corners touching. Raises InvalidInput where there is none."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count == 0:
        raise InvalidInput(NO_BRAIN)
    return np.asarray(labels == 1 + np.bincount(labels.ravel())[1:].argmax())


def _head(scan: Volume) -> Volume:
    """The scan in a lattice of COARSE around its tissue: wide margins of air would make the brain too small to find.

    Raises InvalidInput where there is no tissue, or the scan is longer than any of a head.
    """
    low, high = _corners(scan)
    if (extent := float(np.max(high - low))) > LARGEST_SCAN_MM:
        raise InvalidInput(
            f"the image spans {extent:.0f} mm; a scan of a head at most {LARGEST_SCAN_MM:.0f} mm"
        )
    whole = _sampled(scan, _lattice((low, high), COARSE))
    tissue = np.asarray(whole.data, dtype=np.float32) > TISSUE * _window(whole)[1]
    return _sampled(scan, _lattice(_box_around(tissue, whole), COARSE))


def _window(image: Volume) -> tuple[float, float]:
    low, high = np.quantile(np.asarray(image.data, dtype=np.float32), WINDOW)
    return float(low), float(high)


def _box_around(mask: NDArray[np.bool_], lattice: Volume) -> Box:
    """The box around `mask` on a lattice of `_lattice`, with a margin, within the lattice."""
    first, last = np.zeros(3), np.zeros(3)
    for axis in range(3):
        planes = np.flatnonzero(mask.mean(axis=tuple({0, 1, 2} - {axis})) > SPARSE)
        if not len(planes):
            raise InvalidInput(NO_BRAIN)
        first[axis], last[axis] = planes[0], planes[-1] + 1
    margin = MARGIN * (last - first)
    size, (low, high) = np.array(lattice.spacing), _corners(lattice)
    return np.maximum(low, low + (first - margin) * size), np.minimum(high, low + (last + margin) * size)
