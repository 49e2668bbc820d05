"""Whether several volumes can be scans of one head."""

import numpy as np
from numpy.typing import NDArray

from shared.errors import Invalid
from shared.imaging.volume import Volume

Corner = NDArray[np.float64]

LEAST_HEAD_MM = 60.0
"""No axis of a brain scan is shorter: thinner slabs cannot be analysed."""
LARGEST_HEAD_MM = 500.0
LEAST_SHARED = 0.5
"""Part of the larger box of two scans that must lie in both, so that registration has something to go by."""


def check_head(volume: Volume, label: str) -> None:
    """Raise Invalid when the field of view cannot be a head. label: how to call the file."""
    extent = [n * spacing for n, spacing in zip(volume.shape, volume.spacing, strict=True)]
    if min(extent) < LEAST_HEAD_MM or max(extent) > LARGEST_HEAD_MM:
        size = " × ".join(f"{mm:.0f}" for mm in extent)
        raise Invalid(
            f"{label} covers {size} mm; a brain scan covers {LEAST_HEAD_MM:.0f} to {LARGEST_HEAD_MM:.0f} mm along "
            "each axis"
        )


def check_same_region(first: Volume, second: Volume, labels: tuple[str, str]) -> None:
    """Raise Invalid when two scans do not show the same region. Other grids are fine: they are registered later."""
    if first.same_grid(second):
        return
    low_a, high_a = _box(first)
    low_b, high_b = _box(second)
    shared = np.prod(np.clip(np.minimum(high_a, high_b) - np.maximum(low_a, low_b), 0, None))
    larger = max(np.prod(high_a - low_a), np.prod(high_b - low_b))
    if shared < LEAST_SHARED * larger:
        raise Invalid(
            f"{labels[0]} and {labels[1]} show different regions: {shared / larger:.0%} of the larger lies in both "
            f"(shapes {first.shape} and {second.shape}); send scans of one examination"
        )


def _box(volume: Volume) -> tuple[Corner, Corner]:
    """World-aligned bounding box: its low and high corner, (3,) each, RAS+ mm."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in volume.shape], [1], indexing="ij")).reshape(
        4, -1
    )
    world = (volume.affine @ corners)[:3]
    return world.min(axis=1), world.max(axis=1)
