"""Reads BraTS cases and prepares what the augmentation samples from.

A case becomes one float32 tensor (9, X, Y, Z) at 1 mm in RAS+ order, cropped to the brain:
channels 0–3 the normalised t1, t1ce, t2, flair; 4–6 the regions WT, TC, ET (0 or 1); 7 the brain mask;
8 the signed distance to the border of WT in mm, positive inside, clipped to ±20.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from serving.predictors.intensity import normalise
from shared.imaging.volume import Volume

FILE_NAMES = {
    "t1": ("t1", "t1n"),
    "t1ce": ("t1ce", "t1c"),
    "t2": ("t2", "t2w"),
    "flair": ("flair", "t2f"),
    "seg": ("seg",),
}
MODALITIES = ("t1", "t1ce", "t2", "flair")
# Fixed before the first training run; never trained on, never used to choose anything.
HELD_OUT = ("BraTS2021_01657", "BraTS2021_01660")
IMAGES, REGIONS, BRAIN, DISTANCE = slice(0, 4), slice(4, 7), 7, 8
MAX_DISTANCE_MM = 20.0
MARGIN_VOXELS = 4


@dataclass(frozen=True)
class Case:
    """One training case; `healthy` is the same brain, its lesion painted over from the other hemisphere."""

    name: str
    volume: Tensor
    healthy: Tensor
    lesion_centre: NDArray[np.float64]
    deep_points: NDArray[np.int64]


def find_cases(data: Path) -> list[Path]:
    """Case folders with a segmentation, sorted by name, in `data/brain3d` or else directly in `data`."""
    inner = data / "brain3d"
    root = inner if inner.is_dir() else data
    return sorted({path.parent for path in root.glob("*/*_seg.nii.gz")})


def modality_file(folder: Path, modality: str) -> Path:
    """The file of one modality; later BraTS releases call t1ce t1c. Raises FileNotFoundError."""
    for name in FILE_NAMES[modality]:
        for path in sorted(folder.glob(f"*[_-]{name}.nii.gz")):
            return path
    raise FileNotFoundError(f"{folder.name} has no {modality}")


def read_volume(path: Path) -> Volume:
    """Read a NIfTI file as it is stored."""
    image = Nifti1Image.from_filename(path)
    return Volume(np.asarray(image.dataobj), np.asarray(image.affine, dtype=np.float64))


def read_canonical(path: Path) -> NDArray[np.float32]:
    """The voxels of a NIfTI file in RAS+ axis order. Raises ValueError if the file is not at 1 mm."""
    volume = read_volume(path)
    if not np.allclose(volume.spacing, 1.0, atol=0.05):
        raise ValueError(f"{path.name}: training expects BraTS volumes at 1 mm")
    along = np.abs(volume.affine[:3, :3]).argmax(axis=1)
    turned = np.transpose(volume.data, along)
    backwards = volume.affine[np.arange(3), along] < 0
    return np.asarray(
        turned[tuple(slice(None, None, -1 if flip else 1) for flip in backwards)], dtype=np.float32
    )


def standard_labels(seg: NDArray[np.generic]) -> NDArray[np.uint8]:
    """BraTS labels with enhancing tumour as 3, whichever release: 0 background, 1 NCR, 2 ED, 3 ET."""
    labels = np.rint(np.asarray(seg, dtype=np.float32)).astype(np.uint8)
    labels[labels == 4] = 3
    return labels


def regions_of(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(X, Y, Z) labels to (3, X, Y, Z): whole tumour, tumour core, enhancing tumour."""
    return np.stack([labels > 0, (labels == 1) | (labels == 3), labels == 3])


def load_case(folder: Path, cache: Path | None = None) -> Case:
    """Read, normalise and crop one case; `cache` keeps the prepared tensor between runs."""
    stored = cache / f"{folder.name}.pt" if cache else None
    if stored and stored.is_file():
        volume = torch.load(stored, weights_only=True).float()
    else:
        volume = _prepare(folder)
        if stored:
            stored.parent.mkdir(parents=True, exist_ok=True)
            torch.save(volume.half(), stored)
    centre = np.argwhere(volume[REGIONS][0].numpy() > 0.5).mean(axis=0)
    depth = ndimage.distance_transform_edt(volume[BRAIN].numpy() > 0.5)
    deep = np.argwhere(depth > 8.0)[::50]
    return Case(folder.name, volume, paint_over_lesion(volume), centre, deep)


def paint_over_lesion(volume: Tensor) -> Tensor:
    """Replace the lesion by the mirrored other hemisphere, where that is healthy and inside the brain."""
    middle = float(np.argwhere(volume[BRAIN].numpy() > 0.5)[:, 0].mean())
    shift = round(2 * middle) - (volume.shape[1] - 1)
    mirror = torch.roll(volume.flip(1), shift, dims=1)
    # Lesion with a 6 mm rim, since the tissue around it is displaced and bright as well.
    take = torch.sigmoid((volume[DISTANCE] + 6.0) * 1.5)
    take = take * torch.sigmoid(-(mirror[DISTANCE] + 1.0) * 1.5) * mirror[BRAIN] * volume[BRAIN]
    healthy = volume.clone()
    healthy[IMAGES] = torch.lerp(volume[IMAGES], mirror[IMAGES], take)
    healthy[REGIONS] = volume[REGIONS] * (take < 0.5)
    return healthy


def _prepare(folder: Path) -> Tensor:
    images = [read_canonical(modality_file(folder, name)) for name in MODALITIES]
    labels = standard_labels(read_canonical(modality_file(folder, "seg")))
    brain = np.any(np.stack(images) != 0, axis=0)
    found = np.argwhere(brain)
    box = tuple(
        slice(max(0, low - MARGIN_VOXELS), high + MARGIN_VOXELS + 1)
        for low, high in zip(found.min(axis=0), found.max(axis=0), strict=True)
    )
    whole = labels > 0
    distance = ndimage.distance_transform_edt(whole) - ndimage.distance_transform_edt(~whole)
    channels = [*(normalise(image) for image in images), *regions_of(labels), brain]
    channels.append(np.clip(distance, -MAX_DISTANCE_MM, MAX_DISTANCE_MM))
    return torch.from_numpy(np.stack([np.asarray(channel, dtype=np.float32)[box] for channel in channels]))
