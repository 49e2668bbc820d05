"""Multi-modal brain tumour segmentation with a torch network.

Four volumes on one grid of any orientation → RAS-aligned working grid → region probabilities by sliding
windows → back to the input grid (probabilities, not labels) → label map.
"""

from collections.abc import Mapping

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy import ndimage
from torch import Tensor, nn

from serving.predictors.base import InvalidInput, Value
from serving.predictors.brain_extraction import brain_mask, load_networks, skull_is_on
from serving.predictors.intensity import normalise
from serving.predictors.networks import build_network
from serving.predictors.package import InvalidPackage, ModelPackage
from serving.predictors.resampling import at_voxels, to_grid, working_grid
from serving.predictors.tumour_labels import compose, drop_little_enhancement, drop_small_components
from shared.imaging.volume import Volume

MODALITIES = ("t1", "t1ce", "t2", "flair")
Box = tuple[slice, slice, slice]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preprocessing(_Settings):
    """`preprocessing:` of the manifest."""

    spacing_mm: float
    max_extent_mm: float = 500.0


class Inference(_Settings):
    """`inference:` of the manifest. `mirror_axes` are axes of the RAS working grid: 0 is left–right."""

    window: tuple[int, int, int]
    overlap: float = 0.5
    mirror_axes: list[int] = []
    thresholds: tuple[float, float, float] = (0.5, 0.5, 0.5)
    min_component_mm3: float = 0.0
    min_enhancing_mm3: float = 0.0


class MultiModalSegmenter:
    """Predictor of `label_map` and `brain_extracted` from t1, t1ce, t2 and flair.

    Stateless after construction, so thread-safe.
    """

    def __init__(self, package: ModelPackage, network: nn.Module) -> None:
        self.package = package
        try:
            self.preprocessing = Preprocessing.model_validate(package.manifest.preprocessing)
            self.inference = Inference.model_validate(package.manifest.inference)
        except ValidationError as error:
            raise InvalidPackage(f"{package.manifest.name}: {error}") from error
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.eval().to(self.device)

    def predict(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Where the tumour is, on the grid of the inputs.

        label_map: uint8 Volume (1 NCR, 2 ED, 3 ET). brain_extracted: uint8 (1,), 1 where the skull was on and
        everything but the brain was blanked before segmenting. Raises InvalidInput.
        """
        volumes, extracted = _brains(_on_one_grid(inputs))
        label_map = self._label_map(volumes)
        return {"label_map": label_map, "brain_extracted": np.array([extracted], dtype=np.uint8)}

    def _label_map(self, volumes: list[Volume]) -> Volume:
        """The labels of four brains, 0 outside them."""
        reference = volumes[0]
        foreground = np.any([volume.data != 0 for volume in volumes], axis=0)
        grid = working_grid(foreground, reference.affine, *self._extent())
        image = torch.stack([to_grid(normalise(volume.data), volume.affine, grid) for volume in volumes])
        voxels = np.argwhere(foreground)
        found = at_voxels(self._probabilities(image), grid, voxels, reference.affine)
        labels = np.zeros(reference.shape, dtype=np.uint8)
        whole, core, enhancing = found > np.array(self.inference.thresholds, dtype=np.float32)[:, None]
        labels[foreground] = compose(whole, core, enhancing)
        return Volume(self._clean(labels, reference.voxel_ml * 1000), reference.affine)

    def _extent(self) -> tuple[float, float]:
        return self.preprocessing.spacing_mm, self.preprocessing.max_extent_mm

    @torch.inference_mode()
    def _probabilities(self, image: Tensor) -> Tensor:
        """(4, X, Y, Z) to probabilities of WT, TC, ET (3, X, Y, Z), the mean over the mirrored passes."""
        batch = image[None].to(self.device)
        total = self._windows(batch)
        for axis in self.inference.mirror_axes:
            total += self._windows(batch.flip(axis + 2)).flip(axis + 2)
        return total[0].cpu() / (1 + len(self.inference.mirror_axes))

    def _windows(self, batch: Tensor) -> Tensor:
        logits = sliding_window_inference(
            batch, self.inference.window, 1, self.network, overlap=self.inference.overlap, mode="gaussian"
        )
        if not isinstance(logits, Tensor):
            raise InvalidPackage(f"{self.package.manifest.name}: the network must return one tensor")
        return torch.sigmoid(logits)

    def _clean(self, labels: NDArray[np.uint8], voxel_mm3: float) -> NDArray[np.uint8]:
        box = _bounding_box(labels)
        part = drop_small_components(labels[box], voxel_mm3, self.inference.min_component_mm3)
        labels[box] = drop_little_enhancement(part, voxel_mm3, self.inference.min_enhancing_mm3)
        return labels


def load(package: ModelPackage) -> MultiModalSegmenter:
    """Build the named network and fill in its weights. Raises InvalidPackage where they do not fit."""
    network = build_network(package.manifest.architecture)
    try:
        network.load_state_dict({name: value.float() for name, value in load_file(package.weights).items()})
    except (RuntimeError, SafetensorError) as error:
        raise InvalidPackage(
            f"{package.manifest.name}: the weights do not fit the architecture: {error}"
        ) from error
    load_networks()  # now, so that `predict` reads no files
    return MultiModalSegmenter(package, network)


def _on_one_grid(inputs: Mapping[str, Value]) -> list[Volume]:
    """The four volumes in the order of MODALITIES. Raises InvalidInput where one cannot be used."""
    volumes = [_checked(inputs, name) for name in MODALITIES]
    for name, volume in zip(MODALITIES, volumes, strict=True):
        if not volume.same_grid(volumes[0]):
            raise InvalidInput(f"{name} is not on the grid of t1; register and resample the modalities first")
    return volumes


def _brains(volumes: list[Volume]) -> tuple[list[Volume], bool]:
    """The volumes with nothing but brain in them, and whether that had to be cut out here.

    One sequence with its skull on is enough to cut all four alike: the mask comes from T1, which deepbet knows.
    Skull-stripped volumes come back as they are. Raises InvalidInput where no brain is found.
    """
    if not any(skull_is_on(volume) for volume in volumes):
        return volumes, False
    brain = brain_mask(volumes[MODALITIES.index("t1")])
    # Where a registered sequence ends within the head, it is 0 and three sequences would be taken for four.
    shown = brain & np.all([volume.data != 0 for volume in volumes], axis=0)
    brain &= ndimage.binary_fill_holes(shown)  # dark fluid is shown, too
    if not brain.any():
        raise InvalidInput(
            "no part of the brain is shown by all four sequences; register the modalities first"
        )
    cut = [Volume(np.where(brain, volume.data, 0), volume.affine) for volume in volumes]
    return cut, True


def _checked(inputs: Mapping[str, Value], name: str) -> Volume:
    volume = inputs.get(name)
    if not isinstance(volume, Volume):
        raise InvalidInput(f"needs the volumes {', '.join(MODALITIES)}; {name} is missing")
    if volume.data.ndim != 3 or not np.issubdtype(volume.data.dtype, np.number):
        raise InvalidInput(
            f"{name} must be one 3D image, not {volume.data.dtype} of shape {volume.data.shape}"
        )
    if not np.isfinite(volume.data).all():
        raise InvalidInput(f"{name} has voxels that are not finite numbers (NaN or infinite)")
    if not np.isfinite(volume.affine).all() or abs(np.linalg.det(volume.affine[:3, :3])) < 1e-6:
        raise InvalidInput(f"{name} has an affine that cannot be inverted")
    if not np.any(volume.data):
        raise InvalidInput(f"{name} is zero everywhere")
    return volume


def _bounding_box(labels: NDArray[np.uint8]) -> Box:
    found = np.argwhere(labels)
    if len(found) == 0:
        return slice(0, 0), slice(0, 0), slice(0, 0)
    (a, b, c), (d, e, f) = found.min(axis=0), found.max(axis=0) + 1
    return slice(a, d), slice(b, e), slice(c, f)
