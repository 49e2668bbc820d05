"""Augmentation for very few cases: geometry, lesion transplantation, and intensity per channel.

Transplantation follows CarveMix (Zhang et al., NeuroImage 2023): a lesion with a rim of random width is cut
from one case, deformed, and set into another brain, here mostly one whose own lesion was painted over.
Positions are in mm (training volumes are at 1 mm). One numpy generator draws all, so a seed repeats it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from serving.training.segmentation_data import BRAIN, DISTANCE, IMAGES, REGIONS, Case

Rng = np.random.Generator


@dataclass(frozen=True)
class Ranges:
    """How strong the augmentation is."""

    spacing_mm: tuple[float, float] = (1.2, 2.1)
    rotation_deg: float = 25.0
    stretch: float = 0.12
    elastic_mm: float = 4.0
    healthy_base: float = 0.55
    paste_on_healthy: float = 0.9
    paste_on_original: float = 0.25
    lesion_scale: tuple[float, float] = (0.5, 1.4)


def draw_sample(
    cases: Sequence[Case], rng: Rng, shape: tuple[int, int, int], ranges: Ranges
) -> tuple[Tensor, Tensor]:
    """One augmented patch: images (4, X, Y, Z) and regions WT, TC, ET (3, X, Y, Z), both float32."""
    case = cases[int(rng.integers(len(cases)))]
    healthy = rng.random() < ranges.healthy_base
    paste = rng.random() < (ranges.paste_on_healthy if healthy else ranges.paste_on_original)
    target = case.deep_points[rng.integers(len(case.deep_points))] if paste else case.lesion_centre
    spacing = float(np.exp(rng.uniform(*np.log(ranges.spacing_mm))))
    offsets = _random_offsets(rng, shape, spacing, ranges)
    points = offsets + torch.from_numpy(_patch_centre(case, target, rng)).float()
    patch = sample_at(case.healthy if healthy else case.volume, points)
    if paste:
        donor = cases[int(rng.integers(len(cases)))]
        patch = transplant(patch, points, donor, torch.from_numpy(np.asarray(target)).float(), rng, ranges)
    regions = (patch[REGIONS] > 0.5).float()
    images = _shift_lesion_tones(patch[IMAGES], regions, rng)
    images = augment_intensity(images, (patch[BRAIN] > 0.5).float(), rng)
    return images, regions


def sample_at(volume: Tensor, points: Tensor) -> Tensor:
    """Trilinear values (C, A, B, D) of (C, X, Y, Z) at voxel positions (A, B, D, 3); zero outside."""
    size = torch.tensor(volume.shape[1:], dtype=torch.float32)
    grid = (2 * points / (size - 1) - 1).flip(-1)
    return functional.grid_sample(volume[None], grid[None], align_corners=True)[0]


def transplant(
    patch: Tensor, points: Tensor, donor: Case, target: Tensor, rng: Rng, ranges: Ranges
) -> Tensor:
    """Set the donor's lesion, turned, mirrored, scaled and bent at random, around `target` into a patch."""
    mirror = np.diag(rng.choice([-1.0, 1.0], 3))
    turn = rotation(rng.uniform(-40, 40, 3)) @ mirror / rng.uniform(*ranges.lesion_scale)
    shape = (patch.shape[1], patch.shape[2], patch.shape[3])
    bend = smooth_field(rng, 3, shape, (5, 6, 5)).movedim(0, -1) * rng.uniform(0, ranges.elastic_mm)
    there = (points - target) @ torch.from_numpy(turn.T).float() + bend
    lesion = sample_at(donor.volume, there + torch.from_numpy(donor.lesion_centre).float())
    rim = rng.uniform(0.0, 8.0)
    take = torch.sigmoid((lesion[DISTANCE] + rim) / rng.uniform(0.3, 1.5)) * lesion[BRAIN] * patch[BRAIN]
    result = torch.lerp(patch, lesion, take)
    result[REGIONS] = torch.where(take > 0.5, lesion[REGIONS], patch[REGIONS])
    result[BRAIN] = patch[BRAIN]
    return result


def rotation(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrix about x, then y, then z."""
    result = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        first, second = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


def smooth_field(rng: Rng, channels: int, shape: tuple[int, int, int], knots: tuple[int, int, int]) -> Tensor:
    """Smooth noise (channels, *shape) of about unit spread at its knots."""
    noise = torch.from_numpy(rng.standard_normal((1, channels, *knots), dtype=np.float32))
    return functional.interpolate(noise, shape, mode="trilinear", align_corners=True)[0]


def augment_intensity(images: Tensor, brain: Tensor, rng: Rng) -> Tensor:
    """Change each channel on its own as another scanner or protocol would; outside the brain stays zero."""
    return torch.stack([_augment_channel(image, rng) for image in images]) * brain


def _random_offsets(rng: Rng, shape: tuple[int, int, int], spacing: float, ranges: Ranges) -> Tensor:
    """Positions (X, Y, Z, 3) in mm from the patch's centre after rotation, stretch, mirroring and bending."""
    axes = [(torch.arange(size) - (size - 1) / 2) * spacing for size in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    matrix = rotation(rng.uniform(-1, 1, 3) * ranges.rotation_deg) * (
        1 + rng.uniform(-1, 1, 3) * ranges.stretch
    )
    matrix = np.diag([rng.choice([-1.0, 1.0]), 1.0, 1.0]) @ matrix
    bend = smooth_field(rng, 3, shape, (5, 6, 5)).movedim(0, -1) * rng.uniform(0, ranges.elastic_mm)
    return grid @ torch.from_numpy(matrix.T).float() + bend


def _patch_centre(case: Case, target: NDArray[np.generic], rng: Rng) -> NDArray[np.float64]:
    """A voxel position between the middle of the brain and the lesion, jittered."""
    middle = (np.array(case.volume.shape[1:]) - 1) / 2
    share = rng.uniform(0.0, 1.0)
    return np.asarray(
        middle * (1 - share) + np.asarray(target, dtype=np.float64) * share + rng.normal(0, 6.0, 3)
    )


def _shift_lesion_tones(images: Tensor, regions: Tensor, rng: Rng) -> Tensor:
    """Vary how necrosis, oedema and enhancement look against the brain, per channel."""
    if rng.random() < 0.4:
        return images
    whole, core, enhancing = regions
    parts = torch.stack([core - enhancing, whole - core, enhancing])
    shifts = torch.from_numpy(rng.normal(0, 0.3, (4, 3)).astype(np.float32))
    shift = torch.einsum("cp,pxyz->cxyz", shifts, parts)
    return images + functional.avg_pool3d(shift[None], 3, 1, 1)[0]


def _augment_channel(image: Tensor, rng: Rng) -> Tensor:
    shape = (image.shape[0], image.shape[1], image.shape[2])
    if rng.random() < 0.25:
        image = _lower_resolution(image, rng)
    if rng.random() < 0.3:
        image = _blur(image, rng.uniform(0.05, 0.3))
    if rng.random() < 0.5:
        image = _gamma(image, rng)
    if rng.random() < 0.5:
        floor = image.min()
        field = smooth_field(rng, 1, shape, (3, 3, 3))[0]
        image = (image - floor) * torch.exp(field * rng.uniform(0, 0.2)) + floor
    image = image * rng.uniform(0.75, 1.3) + rng.normal(0, 0.2)
    if rng.random() < 0.3:
        noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        image = image + noise * rng.uniform(0, 0.2)
    if rng.random() < 0.1:
        image = torch.roll(image, int(rng.choice([-1, 1])), dims=int(rng.integers(3)))
    return image


def _gamma(image: Tensor, rng: Rng) -> Tensor:
    """Gamma curve over the channel's range that keeps mean and spread, as in nnU-Net; sometimes inverted."""
    sign = -1.0 if rng.random() < 0.3 else 1.0
    curve = image * sign
    low, high = curve.min(), curve.max()
    curved = ((curve - low) / (high - low + 1e-6)) ** float(np.exp(rng.uniform(np.log(0.65), np.log(1.6))))
    curved = (curved - curved.mean()) / (curved.std() + 1e-6)
    return sign * (curved * curve.std() + curve.mean())


def _blur(image: Tensor, weight: float) -> Tensor:
    kernel = torch.tensor([weight, 1 - 2 * weight, weight])
    blurred = image[None, None]
    for axis in range(3):
        size, pad = [1, 1, 1], [0, 0, 0]
        size[axis], pad[axis] = 3, 1
        blurred = functional.conv3d(blurred, kernel.reshape(1, 1, *size), padding=pad)
    return blurred[0, 0]


def _lower_resolution(image: Tensor, rng: Rng) -> Tensor:
    """Down to thick voxels (one axis more than the others) and back."""
    factors = rng.uniform(1.0, 1.6, 3)
    factors[rng.integers(3)] *= rng.uniform(1.0, 2.5)
    small = [max(8, round(size / factor)) for size, factor in zip(image.shape, factors, strict=True)]
    coarse = functional.interpolate(image[None, None], small, mode="nearest")
    return functional.interpolate(coarse, image.shape, mode="trilinear", align_corners=False)[0, 0]
