"""Reading, registering, measuring and drawing for the brain MRI pipeline."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from functions.inference.outcome import MadeFile
from functions.inference.steps import Steps
from shared.db.models import FileRole, Study, StudyFile
from shared.imaging.measure import label_volumes_ml, largest_slice, region_extent
from shared.imaging.nifti import write_nifti
from shared.imaging.overlay import montage_png, overlay_png
from shared.imaging.register import register_rigid
from shared.imaging.slices import display_slice, slice_axis
from shared.imaging.volume import Volume
from shared.oip.client import InferResult
from shared.oip.errors import ModelFailed
from shared.storage.port import ObjectRef

Sequences = Mapping[str, StudyFile]
"""Modality → file."""
REFERENCE = "t1ce"
"""Sequence on whose grid the others are brought where they differ."""


def sequences_of(study: Study) -> Sequences:
    """The study's volumes by modality."""
    return {file.modality: file for file in study.files if file.role == FileRole.VOLUME and file.modality}


def ref_of(file: StudyFile) -> ObjectRef:
    """Where a file's bytes are."""
    return ObjectRef.model_validate(
        {"bucket": file.bucket, "key": file.key, "size": file.size, "sha256": file.sha256}
    )


def slice_stack(volume: Volume, indices: Sequence[int]) -> NDArray[np.float32]:
    """(N, H, W) axial slices as a viewer shows them."""
    return np.stack([display_slice(volume, index) for index in indices])


def grid_of(file: StudyFile) -> Volume:
    """The file's grid without its voxels, from what ingest noted."""
    shape, affine = file.details["shape"], np.array(file.details["affine"], dtype=np.float64)
    return Volume(np.broadcast_to(np.uint8(0), shape), affine)


def matching_slice(source: StudyFile, index: int, target: StudyFile) -> int:
    """The axial slice of `target` nearest to the middle of slice `index` of `source`, by world position."""
    here, there = grid_of(source), grid_of(target)
    centre = (np.array(here.shape) - 1) / 2
    centre[slice_axis(here)] = index
    world = here.affine @ np.append(centre, 1)
    axis = slice_axis(there)
    voxel = np.linalg.solve(there.affine, world)[axis]
    return int(np.clip(round(voxel), 0, there.shape[axis] - 1))


def on_one_grid(steps: Steps, sequences: Sequences) -> dict[str, ObjectRef]:
    """The four sequences on one grid: as they came when they share it, else registered to T1CE."""
    reference = grid_of(sequences[REFERENCE])
    refs = {name: ref_of(file) for name, file in sequences.items()}
    apart = [name for name, file in sequences.items() if not grid_of(file).same_grid(reference)]
    if not apart:
        return refs

    def compute() -> dict[str, Any]:
        fixed = steps.read(ref_of(sequences[REFERENCE]))
        return {name: _register(steps, name, sequences[name], fixed) for name in apart}

    hashes = {name: ref.sha256 for name, ref in refs.items()}
    made = steps.run("register", 45, hashes, compute)
    for name in apart:
        refs[name] = ObjectRef.model_validate(made[name]["ref"])
    names = ", ".join(name.upper() for name in sorted(apart))
    steps.warn(
        f"{names} had another grid than T1CE and was registered to it; the mask is on the grid of T1CE."
    )
    return refs


def _register(steps: Steps, name: str, file: StudyFile, fixed: Volume) -> dict[str, Any]:
    moved, info = register_rigid(steps.read(ref_of(file)), fixed)
    ref = store_volume(steps, f"registered/{name}.nii.gz", moved)
    return {"ref": ref.model_dump(mode="json"), "rotation_deg": info.rotation_deg, "shift_mm": info.shift_mm}


def store_volume(steps: Steps, name: str, volume: Volume) -> ObjectRef:
    """Write a volume among the task's results."""
    with TemporaryDirectory(prefix="hounsfield-") as folder:
        path = Path(folder) / "volume.nii.gz"
        write_nifti(volume, path)
        with path.open("rb") as file:
            return steps.storage.put("studies", steps.prefix + name, file, "application/gzip")


def measure_and_draw(
    steps: Steps, background: ObjectRef, mask: dict[str, Any], regions: Mapping[str, Collection[int]]
) -> dict[str, Any]:
    """Volumes (mL) per region, longest axial diameter (mm) of the whole tumour, and two pictures."""
    label_map = steps.read(ObjectRef.model_validate(mask), allow_constant=True)
    image = steps.read(background)
    volumes = {name: round(ml, 3) for name, ml in label_volumes_ml(label_map, regions).items()}
    extent = region_extent(label_map, regions["wt"])
    index = largest_slice(label_map, regions["wt"])
    middle = label_map.shape[slice_axis(label_map)] // 2
    caption = "; ".join(f"{name.upper()} {ml:.1f} mL" for name, ml in volumes.items()) + ", drawn on FLAIR"
    return {
        "volumes_ml": volumes,
        "diameter_mm": round(extent.diameter_mm, 1) if extent else None,
        "overlay": _picture(
            steps, "overlay", overlay_png(image, label_map, middle if index is None else index)
        ),
        "overlay-montage": _picture(steps, "overlay-montage", montage_png(image, label_map, caption)),
    }


def draw_slice(steps: Steps, file: StudyFile, index: int) -> dict[str, Any]:
    """A picture of one slice with nothing marked."""
    volume = steps.read(ref_of(file))
    nothing = Volume(np.zeros(volume.shape, np.uint8), volume.affine)
    return _picture(steps, "slice", overlay_png(volume, nothing, index))


def _picture(steps: Steps, name: str, png: bytes) -> dict[str, Any]:
    return steps.storage.put("studies", f"{steps.prefix}{name}.png", png, "image/png").model_dump(mode="json")


def add_file(steps: Steps, role: str, media_type: str, filename: str, ref: dict[str, Any]) -> None:
    """List an artifact in the outcome."""
    steps.outcome.files.append(MadeFile(role, media_type, filename, ObjectRef.model_validate(ref)))


def object_output(answer: InferResult, name: str) -> ObjectRef:
    """The reference that a model answered. Raises ModelFailed when it answered something else."""
    value = answer.outputs.get(name)
    if not isinstance(value, ObjectRef):
        raise ModelFailed(f"{answer.model_name}: the answer has no object {name!r}")
    return value
