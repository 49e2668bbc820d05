"""Voxels change grids, the patient stays put."""

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings

from shared.imaging.geometry import from_sitk, isotropic_grid, resample_to, to_canonical, to_sitk
from shared.imaging.volume import Volume
from tests.builders import nifti_ball, nifti_volumes

SPOT = (-20.0, 15.0, 10.0)


def _spot(grid: Volume) -> Volume:
    return Volume(nifti_ball(grid, SPOT, 15.0).astype(np.uint8), grid.affine)


def _centre(volume: Volume) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    where = np.argwhere(volume.data != 0).mean(axis=0)
    return np.asarray(volume.affine[:3, :3] @ where + volume.affine[:3, 3])


@settings(max_examples=30, deadline=None)
@given(grid=nifti_volumes(largest_tilt=40.0))
def test_canonical_order_is_closest_to_ras_and_moves_nothing(grid: Volume) -> None:
    spot = _spot(grid)
    canonical = to_canonical(spot)
    assert nibabel.orientations.aff2axcodes(canonical.affine) == ("R", "A", "S")
    assert sorted(canonical.shape) == sorted(spot.shape)
    assert canonical.data.sum() == spot.data.sum()
    np.testing.assert_allclose(_centre(canonical), _centre(spot), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(grid=nifti_volumes())
def test_simpleitk_and_back_is_the_same_volume(grid: Volume) -> None:
    spot = _spot(grid)
    image = to_sitk(spot)
    back = from_sitk(image)
    np.testing.assert_array_equal(back.data, spot.data)
    np.testing.assert_allclose(back.affine, spot.affine, atol=1e-9)
    x, y, z = image.TransformIndexToPhysicalPoint((1, 2, 3))
    np.testing.assert_allclose((-x, -y, z), (spot.affine @ [1, 2, 3, 1])[:3], atol=1e-9)  # LPS ↔ RAS


@settings(max_examples=30, deadline=None)
@given(grid=nifti_volumes(), other=nifti_volumes())
def test_a_spot_stays_where_it_is_when_it_is_resampled_there_and_back(grid: Volume, other: Volume) -> None:
    spot = _spot(grid)
    moved = resample_to(spot, other, "nearest")
    assert moved.shape == other.shape
    assert moved.data.dtype == np.uint8
    np.testing.assert_allclose(_centre(moved), SPOT, atol=2.0)
    back = resample_to(moved, grid, "nearest")
    np.testing.assert_allclose(_centre(back), SPOT, atol=3.0)
    assert 2 * ((back.data != 0) & (spot.data != 0)).sum() >= 0.75 * (back.data.sum() + spot.data.sum())


@settings(max_examples=25, deadline=None)
@given(grid=nifti_volumes(), other=nifti_volumes())
def test_a_linear_ramp_over_the_patient_reads_the_same_on_every_grid(grid: Volume, other: Volume) -> None:
    def ramp(volume: Volume) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        index = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), axis=-1)
        world = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        return np.asarray(world @ [1.0, -2.0, 0.5] + 1000)

    resampled = resample_to(Volume(ramp(grid), grid.affine), other, "linear")
    inside = resampled.data != 0
    assert inside.mean() > 0.3
    error = np.abs(resampled.data.astype(np.float64) - ramp(other))[
        inside & nifti_ball(other, (0, 0, 0), 30.0)
    ]
    assert error.max() < 0.01


def test_resampling_onto_its_own_grid_changes_nothing() -> None:
    data = np.random.default_rng(0).normal(size=(7, 6, 5)).astype(np.float32)
    affine = np.array([[0, -1.3, 0.1, 4], [0.9, 0, 0, -7], [0, 0.1, 3.0, 2], [0, 0, 0, 1]])
    volume = Volume(data, affine)
    linear = resample_to(volume, volume, "linear").data.astype(np.float64)
    np.testing.assert_allclose(linear, data.astype(np.float64), atol=1e-5)
    np.testing.assert_array_equal(resample_to(volume, volume, "nearest").data, data)


@pytest.mark.parametrize("spacing", [1.0, 2.0, 4.0])
def test_an_isotropic_grid_spans_the_same_space(spacing: float) -> None:
    volume = Volume(np.zeros((20, 30, 10)), np.diag([-2.0, -1.0, 5.5, 1.0]))
    grid = isotropic_grid(volume, spacing)
    assert np.abs(np.array(grid.spacing) - spacing).max() < 0.3
    middle = [
        volume.affine @ [*(np.array(volume.shape) - 1) / 2, 1],
        grid.affine @ [*(np.array(grid.shape) - 1) / 2, 1],
    ]
    np.testing.assert_allclose(middle[0], middle[1])
