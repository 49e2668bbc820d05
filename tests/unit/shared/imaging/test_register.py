"""Rigid registration finds a known motion and leaves aligned scans alone."""

import time
from pathlib import Path

import numpy as np
import pytest

from shared.imaging.geometry import resample_to
from shared.imaging.nifti import Limits, read_nifti
from shared.imaging.register import register_rigid
from shared.imaging.volume import Volume
from tests.builders import nifti_ball, nifti_rotation, nifti_texture


def _head(scale: float) -> Volume:
    """A textured phantom on a 3 mm grid; `scale` −1 inverts its contrast, as T2 does T1's."""
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (-90, -105, -90)
    grid = Volume(np.zeros((60, 70, 60), dtype=np.uint8), affine)
    inside = nifti_ball(grid, (0, 8, 0), 70) | nifti_ball(grid, (0, -20, 0), 65)
    data = np.where(inside, 500 + scale * 100 * nifti_texture(grid), 0)
    return Volume(data.astype(np.float32), affine)


def test_scans_on_one_grid_come_back_as_they_are() -> None:
    head = _head(1)
    moved, info = register_rigid(head, Volume(head.data * 2, head.affine))
    assert moved is head
    assert info.skipped and info.rotation_deg == 0 and info.shift_mm == 0


def test_a_known_motion_is_found_across_contrasts_and_the_same_each_time() -> None:
    fixed, motion = _head(1), np.eye(4)
    motion[:3, :3] = nifti_rotation(np.array([0.2, 0.1, 1.0]), 8.0)
    motion[:3, 3] = (9.0, -12.0, 6.0)
    moving = Volume(_head(-1).data, motion @ fixed.affine)
    moved, info = register_rigid(moving, fixed)
    points = np.array([[60, 0, 0, 1], [0, 60, -40, 1], [-50, -50, 50, 1]], dtype=float).T
    error = np.linalg.norm((info.moving_from_fixed @ points - motion @ points)[:3], axis=0)
    assert error.max() < 1.0
    assert info.similarity_after > info.similarity_before
    assert moved.same_grid(fixed)
    again, _ = register_rigid(moving, fixed)
    np.testing.assert_array_equal(moved.data, again.data)


@pytest.mark.parametrize("modality", ["t2", "flair"])
def test_raw_scans_on_different_grids_come_closer_in_seconds(modality: str, hounsfield_data: Path) -> None:
    case = hounsfield_data / "brain3d" / "TCGA-FG-6692_native"
    fixed = read_nifti(case / "TCGA-FG-6692_t1ce.nii.gz", Limits())
    moving = read_nifti(case / f"TCGA-FG-6692_{modality}.nii.gz", Limits())
    started = time.monotonic()
    moved, info = register_rigid(moving, fixed)
    assert time.monotonic() - started < 30
    assert moved.same_grid(fixed)
    assert info.similarity_after > 1.3 * info.similarity_before
    assert _head_overlap(moved, fixed) > max(0.85, _head_overlap(resample_to(moving, fixed, "linear"), fixed))


def _head_overlap(a: Volume, b: Volume) -> float:
    """Dice of the two heads, told from air by a low threshold."""
    heads = [v.data.astype(np.float32) > 0.5 * v.data.astype(np.float32).mean() for v in (a, b)]
    return float(2 * (heads[0] & heads[1]).sum() / (heads[0].sum() + heads[1].sum()))
