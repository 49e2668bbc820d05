"""Labelled 2D slices for the slice models: the brain2d pictures, BraTS volumes cut into axial slices, the MNI152 template.

The published split of brain2d: within each class the patients, sorted by sha256("hounsfield-slices:<patient>"),
give the first 70 % to training, the next 10 % to validation and the last 20 % to the test. A picture without a
patient is a group of its own. BraTS: the cases that the
segmentation model holds out are the test here too, the others train.
"""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Image
from nilearn import datasets as nilearn_data
from numpy.typing import NDArray
from PIL import Image

from serving.training.segmentation_data import HELD_OUT

Float: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]
Split: TypeAlias = Literal["train", "val", "test"]

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
SEQUENCES = ("t1", "t1ce", "t2", "flair")

TUMOUR_MM2 = 150.0  # a slice with less tumour than this is neither a fair positive nor a negative
BRAIN_MM2 = 2000.0  # a slice with less brain shows too little to be called normal
CLEAR_MM = 6.0  # a negative slice lies at least this far above or below the tumour


@dataclass(frozen=True, eq=False)
class Slice:
    """One labelled slice. image: (H, W) raw intensities, row 0 anterior; lesion: (H, W) tumour pixels, if known."""

    image: Float
    label: str
    group: str
    origin: Literal["brain2d", "brats", "mni152"]
    sequence: str = "unknown"
    lesion: Mask | None = field(default=None, repr=False)

    @property
    def tumour(self) -> bool:
        """Whether the label is a tumour class."""
        return self.label != "notumor"


def brain2d(data_dir: Path, split: Split) -> list[Slice]:
    """The pictures of `brain2d/train` that the published rule gives to `split`."""
    folder = data_dir / "brain2d"
    with (folder / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    groups = {row["file"]: row["patient"] or row["file"] for row in rows}
    parts = {
        label: split_of({groups[row["file"]] for row in rows if row["label"] == label}) for label in CLASSES
    }
    return [
        _picture(folder, row, groups[row["file"]])
        for row in rows
        if parts[row["label"]][groups[row["file"]]] == split
    ]


def split_of(groups: set[str]) -> dict[str, Split]:
    """Which split each group (patient) of one class belongs to."""
    ordered = sorted(
        groups, key=lambda group: hashlib.sha256(f"hounsfield-slices:{group}".encode()).hexdigest()
    )
    train, val = round(0.7 * len(ordered)), round(0.8 * len(ordered))
    return {
        group: "train" if place < train else "val" if place < val else "test"
        for place, group in enumerate(ordered)
    }


def _picture(folder: Path, row: dict[str, str], group: str) -> Slice:
    image = np.asarray(Image.open(folder / row["file"]).convert("L"), dtype=np.float32)
    lesion = None
    if row["bbox_cx_cy_w_h"]:
        cx, cy, w, h = (float(part) for part in row["bbox_cx_cy_w_h"].split())
        height, width = image.shape
        lesion = np.zeros(image.shape, dtype=np.bool_)
        lesion[
            int((cy - h / 2) * height) : int((cy + h / 2) * height) + 1,
            int((cx - w / 2) * width) : int((cx + w / 2) * width) + 1,
        ] = True
    # The tumour classes are all contrast-enhanced T1; the web pictures do not say what they are.
    sequence = "unknown" if row["label"] == "notumor" else "t1ce"
    return Slice(image, row["label"], group, "brain2d", sequence, lesion)


def brats_cases(data_dir: Path, split: Literal["train", "test"]) -> list[str]:
    """Names of the BraTS cases of a split, sorted."""
    names = sorted(path.name for path in (data_dir / "brain3d").iterdir() if path.name.startswith("BraTS"))
    return [name for name in names if (name in HELD_OUT) == (split == "test")]


def brats(data_dir: Path, case: str, every: int = 1) -> Iterator[Slice]:
    """Axial slices of one case in all four sequences: every `every`-th tumour slice and every clear brain slice."""
    folder = data_dir / "brain3d" / case
    mask, spacing = display_slices(folder / f"{case}_seg.nii.gz")
    volumes = {name: display_slices(folder / f"{case}_{name}.nii.gz")[0] for name in SEQUENCES}
    pixel_mm2 = spacing[0] * spacing[1]
    tumour_mm2 = (mask > 0).sum(axis=(1, 2)) * pixel_mm2
    brain_mm2 = (volumes["t1"] > 0).sum(axis=(1, 2)) * pixel_mm2
    near = round(CLEAR_MM / spacing[2])
    for z in range(len(mask)):
        clear = tumour_mm2[max(z - near, 0) : z + near + 1].sum() == 0
        if clear and brain_mm2[z] >= BRAIN_MM2:
            label = "notumor"
        elif tumour_mm2[z] >= TUMOUR_MM2 and z % every == 0:
            label = "glioma"
        else:
            continue
        for name in SEQUENCES:
            yield Slice(volumes[name][z], label, case, "brats", name, mask[z] > 0)


def display_slices(path: Path) -> tuple[Float, tuple[float, float, float]]:
    """A NIfTI volume as (Z, row, column) float32 axial slices in the display frame, and the (row, column, z) spacing in mm."""
    image = cast(Nifti1Image, nib.as_closest_canonical(cast(Nifti1Image, nib.load(path))))
    return _as_display(image)


def _as_display(image: Nifti1Image) -> tuple[Float, tuple[float, float, float]]:
    data = np.asarray(image.dataobj, dtype=np.float32)
    dx, dy, dz = (float(size) for size in image.header.get_zooms()[:3])
    # RAS+ storage: x grows to the patient's left edge of the screen, y to the top; the display wants the reverse.
    return np.ascontiguousarray(data[::-1, ::-1].transpose(2, 1, 0)), (dy, dx, dz)


def mni152(step: int = 3) -> list[Slice]:
    """Slices of a normal, skull-stripped brain: the MNI152 T1 template and T1CE, T2 and FLAIR simulated from its tissue maps.

    The simulated contrasts are crude (one grey per tissue); they are only there so that "skull-stripped" is not
    learnt as "tumour".
    """
    t1, _ = _as_display(
        cast(Nifti1Image, nib.as_closest_canonical(nilearn_data.load_mni152_template(resolution=1)))
    )
    maps: dict[str, Any] = {
        "gm": nilearn_data.load_mni152_gm_template(resolution=1),
        "wm": nilearn_data.load_mni152_wm_template(resolution=1),
    }
    grey, white = (
        _as_display(cast(Nifti1Image, nib.as_closest_canonical(maps[name])))[0] for name in ("gm", "wm")
    )
    brain = (t1 > 0.05 * t1.max()).astype(np.float32)
    fluid = np.clip(brain - grey - white, 0.0, 1.0)
    texture = 0.15 * (t1 / t1.max() - 0.7) * brain
    volumes = {
        "t1": t1,
        "t1ce": 0.75 * white + 0.62 * grey + 0.2 * fluid + texture,
        "t2": 0.35 * white + 0.5 * grey + 1.0 * fluid - texture,
        "flair": 0.5 * white + 0.65 * grey + 0.15 * fluid - texture,
    }
    area = brain.sum(axis=(1, 2))
    levels = [z for z in range(0, len(t1), step) if area[z] >= BRAIN_MM2]
    return [
        Slice((volumes[name] * brain)[z].astype(np.float32), "notumor", "MNI152", "mni152", name)
        for name in SEQUENCES
        for z in levels
    ]
