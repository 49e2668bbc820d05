"""What makes training slices differ: contrast, noise, resolution, JPEG, pose, skull on or off, mirrored halves, made-up lesions.

All functions take (H, W) float32 in 0…1 (`serving.predictors.slices.rescale`) and a NumPy generator. Why so heavy:
the pictures without a tumour come from other sources than those with one, so anything that tells sources apart
must be made uninformative.
"""

import io
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from serving.predictors.slices import FOREGROUND_LEVEL, Box, cut_square, head_box, rescale, resize

Float: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]


def augment(image: Float, size: int, rng: Generator) -> Float:
    """A random variant of a slice, cropped to the head and resized as the predictor does: (size, size) in 0…1."""
    image = _pose(image, rng)
    image = _contrast(image, rng)
    image = _degrade(image, rng)
    # Rescaled again, as the predictor would see it, then a jittered crop: the head box is never exact.
    image = rescale(image)
    box = head_box(image, float(rng.uniform(0.0, 0.1)))
    jitter = 0.04 * max(box.bottom - box.top, box.right - box.left)
    top, bottom, left, right = (round(float(value)) for value in rng.normal(0.0, jitter, 4))
    jittered = Box(box.top + top, box.bottom + bottom, box.left + left, box.right + right)
    return np.clip(resize(cut_square(image, jittered), size), 0.0, 1.0)


def _pose(image: Float, rng: Generator) -> Float:
    """Left-right flip, rotation by up to about 25°, unequal stretch."""
    if rng.random() < 0.5:
        image = image[:, ::-1]
    height, width = image.shape
    stretch = np.exp(rng.uniform(-0.12, 0.12, 2))
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture = picture.resize(
        (round(width * stretch[0]), round(height * stretch[1])), Image.Resampling.BILINEAR
    )
    if rng.random() < 0.8:
        picture = picture.rotate(float(rng.normal(0.0, 10.0)), Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.float32)


def _contrast(image: Float, rng: Generator) -> Float:
    """Gamma, window and a smooth receive-coil shading."""
    out = np.clip(image, 0.0, 1.0) ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    if rng.random() < 0.5:
        rows = np.linspace(-1, 1, image.shape[0], dtype=np.float32)[:, None]
        columns = np.linspace(-1, 1, image.shape[1], dtype=np.float32)[None]
        a, b, c = rng.uniform(-0.3, 0.3, 3).astype(np.float32)
        out = out * np.exp(a * rows + b * columns + c * (rows**2 + columns**2 - 0.7))
    if rng.random() < 0.5:
        out = np.minimum(out * np.float32(rng.uniform(1.0, 1.35)), 1.0)
    return out.astype(np.float32)


def _degrade(image: Float, rng: Generator) -> Float:
    """Lower resolution, blur, noise, JPEG blocks: each sometimes."""
    if rng.random() < 0.4:
        height, width = image.shape
        share = rng.uniform(0.35, 0.9)
        small = Image.fromarray(image).resize((max(int(width * share), 32), max(int(height * share), 32)))
        image = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
    if rng.random() < 0.2:
        image = ndimage.gaussian_filter(image, rng.uniform(0.4, 1.3))
    if rng.random() < 0.35:
        noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0.01, 0.06))
        # Skull-stripped air is exactly zero; scanned air is not.
        image = image + noise * (image > 0) if rng.random() < 0.5 else np.abs(image + noise)
    if rng.random() < 0.4:
        image = _jpeg(image, int(rng.integers(25, 92)))
    return image.astype(np.float32)


def _jpeg(image: Float, quality: int) -> Float:
    buffer = io.BytesIO()
    Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), dtype=np.float32) / np.float32(255.0)


def tissue(image: Float) -> Mask:
    """The filled outline of the head, or of the brain in a skull-stripped slice."""
    opened = ndimage.binary_opening(image > FOREGROUND_LEVEL, iterations=2)
    filled: Mask = ndimage.binary_fill_holes(opened)
    parts, count = ndimage.label(filled)
    if count == 0:
        return filled
    largest: Mask = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return largest


def without_skull(image: Float, lesion: Mask | None, rng: Generator) -> Float:
    """Roughly skull-stripped: a rim of random depth is blanked. The slice itself where that would remove the lesion."""
    head = tissue(image)
    depth = ndimage.distance_transform_edt(head)
    rim = float(rng.uniform(0.12, 0.3)) * float(depth.max())
    wobble = ndimage.gaussian_filter(rng.standard_normal(image.shape), 8) * 60
    kept = depth > rim + wobble
    if lesion is not None and kept[lesion].mean() < 0.8:
        return image
    return rescale((image * kept).astype(np.float32))


def with_skull(image: Float, rng: Generator) -> Float:
    """A skull-stripped slice dressed in a dark skull and a bright scalp, so that "skull" does not mean "no tumour"."""
    padded = np.pad(image, max(image.shape) // 10)
    brain = ndimage.binary_closing(padded > 0.02, iterations=4)
    away = ndimage.distance_transform_edt(~brain)
    unit = max(image.shape) / 240
    bone, scalp = rng.uniform(2, 7) * unit, rng.uniform(3, 10) * unit
    skull_grey, scalp_grey = rng.uniform(0.0, 0.15), rng.uniform(0.25, 1.1)
    texture = 1 + 0.25 * ndimage.gaussian_filter(rng.standard_normal(padded.shape), 2) * 5
    dressed = np.where((away > 0) & (away <= bone), skull_grey, padded)
    dressed = np.where((away > bone) & (away <= bone + scalp), scalp_grey * texture, dressed)
    return np.clip(dressed, 0, 1.2).astype(np.float32)


def mirrored(image: Float, lesion: Mask, want_lesion: bool, rng: Generator) -> Float | None:
    """One half of the brain on both sides: the healthy one, or (`want_lesion`) the diseased one.

    None where the lesion crosses the midline. The midline is the middle column, as in BraTS atlas space. Both kinds are
    made so that symmetry itself says nothing.
    """
    middle = image.shape[1] // 2
    left, right = lesion[:, : middle + 3].any(), lesion[:, middle - 3 :].any()
    if left and right:
        return None
    use_left = bool(left) == want_lesion
    half = image[:, :middle] if use_left else image[:, ::-1][:, :middle]
    other = half[:, ::-1] * np.float32(rng.uniform(0.9, 1.1))
    return np.concatenate([half, other], axis=1).astype(np.float32)


def with_lesion(image: Float, sequence: str, rng: Generator) -> Float:
    """A made-up tumour: an irregular core in an irregular halo, in the greys that the sequence would show."""
    brain = tissue(image)
    depth = ndimage.distance_transform_edt(brain)
    inside = np.argwhere(depth > 0.15 * depth.max())
    if inside.size == 0:
        return image
    row, column = inside[rng.integers(len(inside))]
    radius = float(rng.uniform(0.16, 0.42)) * float(depth.max())
    halo_radius = radius * float(rng.uniform(1.2, 2.2))
    rows, columns = np.indices(image.shape, dtype=np.float32)
    squeeze, angle = np.exp(rng.uniform(-0.35, 0.35)), rng.uniform(0, np.pi)
    along = (rows - row) * np.cos(angle) + (columns - column) * np.sin(angle)
    across = (columns - column) * np.cos(angle) - (rows - row) * np.sin(angle)
    distance = np.hypot(along * squeeze, across / squeeze)
    rough = ndimage.gaussian_filter(rng.standard_normal(image.shape), radius / 2.5 + 1)
    distance = distance + rough / max(float(rough.std()), 1e-6) * radius * 0.22
    core = 1 / (1 + np.exp((distance - radius) / 1.2))
    halo = np.clip(1 / (1 + np.exp((distance - halo_radius) / (0.12 * halo_radius + 1))) - core, 0, 1)
    ring = np.exp(-(((distance - radius) / (0.12 * radius + 1.2)) ** 2))
    changed = image + _greys(sequence, core, halo, ring, rng) * brain
    return np.clip(changed, 0.0, 1.3).astype(np.float32)


def _greys(
    sequence: str,
    core: NDArray[np.float64],
    halo: NDArray[np.float64],
    ring: NDArray[np.float64],
    rng: Generator,
) -> NDArray[np.float64]:
    """How much brighter or darker each pixel becomes."""
    kind = sequence if sequence != "unknown" else str(rng.choice(["t1", "t1ce", "t2", "flair"]))
    u = rng.uniform
    match kind:
        case "flair":
            return u(0.2, 0.5) * halo + u(0.0, 0.45) * core + u(0, 0.15) * ring
        case "t2":
            return u(0.18, 0.45) * halo + u(0.1, 0.5) * core - u(0, 0.1) * ring
        case "t1":
            return -u(0.06, 0.25) * halo - u(0.15, 0.4) * core + u(-0.05, 0.1) * ring
        case _:
            solid = u(0.2, 0.5) if rng.random() < 0.4 else -u(0.05, 0.35)
            return -u(0.0, 0.18) * halo + solid * core + u(0.25, 0.7) * ring
