"""A made-up brain study on real anatomy: four sequences with a drawn-in tumour and its truth.

Anatomy: the ICBM 2009a symmetric MNI152 template and its grey and white matter maps, which nilearn ships
(Fonov 2011; free to use and redistribute). Nothing in it is a patient. Callers must label it synthetic.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.imaging.geometry import to_sitk
from shared.imaging.modality import MODALITIES, Modality
from shared.imaging.nifti import write_nifti
from shared.imaging.volume import Volume

TRUTH_NAME = "seg.nii.gz"
MARGIN_MM = 10
NOISE = 12.0
"""Standard deviation of the Rician noise, intensity units (white matter lies near 500)."""

# Typical relative intensities: fluid, grey, white, then necrotic core, oedema, enhancing rim.
_CONTRAST: dict[Modality, tuple[float, ...]] = {
    "t1": (150, 420, 560, 260, 400, 400),
    "t1ce": (150, 430, 560, 240, 400, 980),
    "t2": (1100, 560, 400, 1000, 860, 620),
    "flair": (140, 470, 400, 330, 800, 620),
}


@dataclass(frozen=True)
class Anatomy:
    """Tissue fractions (X, Y, Z) float32 that sum to 1 within `brain`, on the grid of `affine`."""

    fluid: NDArray[np.float32]
    grey: NDArray[np.float32]
    white: NDArray[np.float32]
    brain: NDArray[np.bool_]
    affine: NDArray[np.float64]


def synthetic_study(folder: Path, seed: int = 0, resolution_mm: int = 1) -> dict[Modality, Path]:
    """Writes t1, t1ce, t2, flair (int16) and the truth `seg` (uint8: 1 core, 2 oedema, 3 rim) as .nii.gz.

    All on one skull-stripped RAS+ grid; equal arguments give equal bytes. Returns the sequences' paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    anatomy = load_anatomy(resolution_mm)
    lesion = draw_lesion(anatomy, random)
    texture = _smooth_field(anatomy, random, 3.0)
    paths: dict[Modality, Path] = {}
    for modality in MODALITIES:
        paths[modality] = folder / f"{modality}.nii.gz"
        image = _simulate(modality, anatomy, lesion, texture, random)
        write_nifti(Volume(image, anatomy.affine), paths[modality])
    write_nifti(Volume(lesion, anatomy.affine), folder / TRUTH_NAME)
    return paths


def load_anatomy(resolution_mm: int) -> Anatomy:
    """The MNI152 brain's tissue fractions at `resolution_mm` per voxel, from nilearn's own files."""
    from nilearn import datasets  # only the demonstration needs it; it is heavy to import

    maps = [
        datasets.load_mni152_brain_mask(resolution=resolution_mm),
        datasets.load_mni152_gm_template(resolution=resolution_mm),
        datasets.load_mni152_wm_template(resolution=resolution_mm),
    ]
    box, corner = _brain_box(np.asarray(maps[0].dataobj) > 0.5, max(1, MARGIN_MM // resolution_mm))
    mask, grey, white = (np.asarray(image.dataobj, dtype=np.float32)[box] for image in maps)
    brain = mask > 0.5
    grey, white = (np.where(brain, np.clip(tissue, 0, 1), 0) for tissue in (grey, white))
    total = np.maximum(grey + white, 1)
    grey, white = grey / total, white / total
    fluid = np.where(brain, 1 - grey - white, 0).astype(np.float32)
    affine = np.asarray(maps[0].affine, dtype=np.float64).copy()
    affine[:3, 3] += affine[:3, :3] @ corner
    return Anatomy(fluid, grey, white, brain, affine)


def draw_lesion(anatomy: Anatomy, random: np.random.Generator) -> NDArray[np.uint8]:
    """A ring-enhancing tumour with oedema in one hemisphere's white matter: (X, Y, Z) uint8, 0–3.

    Lumpy spheres around one centre; oedema spreads through white matter and spares the cortex.
    """
    side = random.choice([-1.0, 1.0])
    centre = np.array([side * random.uniform(26, 34), random.uniform(-30, 25), random.uniform(14, 30)])
    grid = np.stack(np.meshgrid(*map(np.arange, anatomy.brain.shape), indexing="ij"), axis=-1)
    world = (grid @ anatomy.affine[:3, :3].T + anatomy.affine[:3, 3]).astype(np.float32)
    radius = np.linalg.norm((world - centre) / random.uniform(0.85, 1.2, size=3), axis=-1)
    lumps = _smooth_field(anatomy, random, 7.0)
    core, rim = random.uniform(10, 13), random.uniform(14, 18)
    lesion = np.zeros(anatomy.brain.shape, dtype=np.uint8)
    spread = anatomy.brain & (anatomy.white > 0.45) & (radius + 5 * lumps < rim + random.uniform(11, 15))
    lesion[spread] = 2
    lesion[anatomy.brain & (radius + 1.5 * lumps < rim)] = 3
    lesion[anatomy.brain & (radius + 1.5 * lumps < core)] = 1
    return lesion


def _brain_box(brain: NDArray[np.bool_], margin: int) -> tuple[tuple[slice, ...], NDArray[np.int64]]:
    """The box around `brain` with `margin` voxels more, and its first corner: less to compute and to send."""
    where = np.argwhere(brain)
    low = np.maximum(where.min(axis=0) - margin, 0)
    high = np.minimum(where.max(axis=0) + margin + 1, brain.shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True)), low


def _simulate(
    modality: Modality,
    anatomy: Anatomy,
    lesion: NDArray[np.uint8],
    texture: NDArray[np.float32],
    random: np.random.Generator,
) -> NDArray[np.int16]:
    """Mixed tissue intensities, blurred, with a smooth receive-coil bias and Rician noise; 0 outside."""
    fluid, grey, white, *marked = _CONTRAST[modality]
    image = fluid * anatomy.fluid + grey * anatomy.grey + white * anatomy.white
    for label, intensity in enumerate(marked, start=1):
        image[lesion == label] = intensity
    image = _blurred(image * (1 + 0.06 * texture), anatomy.affine, 0.7)
    image *= 1 + 0.08 * _smooth_field(anatomy, random, 40.0)
    noise = NOISE * random.standard_normal((2, *image.shape), dtype=np.float32)
    noisy = np.hypot(image + noise[0], noise[1])
    return np.where(anatomy.brain, np.clip(np.round(noisy), 1, 4000), 0).astype(np.int16)


def _smooth_field(anatomy: Anatomy, random: np.random.Generator, sigma_mm: float) -> NDArray[np.float32]:
    """A random field of unit variance that varies over `sigma_mm`."""
    noise = random.standard_normal(anatomy.brain.shape, dtype=np.float32)
    field = _blurred(noise, anatomy.affine, sigma_mm)
    return np.asarray(field / field.std(), dtype=np.float32)


def _blurred(image: NDArray[np.float32], affine: NDArray[np.float64], sigma_mm: float) -> NDArray[np.float32]:
    blurred = sitk.SmoothingRecursiveGaussian(to_sitk(Volume(image.astype(np.float32), affine)), sigma_mm)
    return np.asarray(sitk.GetArrayFromImage(blurred).transpose(2, 1, 0), dtype=np.float32)
