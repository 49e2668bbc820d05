"""A slice is right side up and the right way round, whatever the storage order, tilt and spacing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from shared.errors import Invalid
from shared.imaging.geometry import to_canonical
from shared.imaging.measure import largest_slice, slice_areas
from shared.imaging.nifti import Limits, read_nifti
from shared.imaging.slices import (
    AXES,
    Axis,
    display_slice,
    mask_slice,
    pixel_mm,
    representative_slices,
    slice_axis,
    slice_count,
)
from shared.imaging.volume import Volume
from tests.builders import nifti_ball, nifti_texture, nifti_volumes

LEFT_ANTERIOR_SUPERIOR = (-25.0, 25.0, 25.0)
"""Millimetres from the centre of the head; RAS+, so x < 0 is the patient's left."""


def _middle_of(mask: NDArray[np.generic]) -> tuple[float, float]:
    """Row and column of the mask's centre, as shares of the picture (0–1)."""
    rows, columns = np.nonzero(mask)
    return (rows.mean() + 0.5) / mask.shape[0], (columns.mean() + 0.5) / mask.shape[1]


@settings(max_examples=40, deadline=None)
@given(grid=nifti_volumes())
def test_the_patients_left_is_on_the_right_and_the_face_is_up(grid: Volume) -> None:
    marked = Volume(nifti_ball(grid, LEFT_ANTERIOR_SUPERIOR, 9.0).astype(np.uint8), grid.affine)
    for axis in AXES:
        index = int(slice_areas(marked, {1}, axis).argmax())
        row, column = _middle_of(mask_slice(marked, index, axis))
        assert row < 0.5  # anterior in the axial slice, superior in the others
        assert (column < 0.5) == (
            axis == "sagittal"
        )  # the face is on the left, the patient's left on the right


@settings(max_examples=40, deadline=None)
@given(grid=nifti_volumes())
def test_the_mask_lies_where_the_scan_shows_it(grid: Volume) -> None:
    ball = nifti_ball(grid, LEFT_ANTERIOR_SUPERIOR, 14.0)
    scan, mask = Volume(ball * np.float32(900), grid.affine), Volume(ball.astype(np.uint8), grid.affine)
    for axis in AXES:
        index = int(slice_areas(mask, {1}, axis).argmax())
        seen, marked = display_slice(scan, index, axis), mask_slice(mask, index, axis)
        assert seen.shape == marked.shape
        overlap = ((seen > 450) & (marked == 1)).sum()
        assert 2 * overlap >= 0.85 * ((seen > 450).sum() + (marked == 1).sum())


@settings(max_examples=25, deadline=None)
@given(grid=nifti_volumes())
def test_pixels_are_square_and_cover_the_slice(grid: Volume) -> None:
    canonical = to_canonical(grid)
    extent = np.array(canonical.shape) * canonical.spacing
    planes: dict[Axis, tuple[int, int]] = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}
    for plane, (across, down) in planes.items():
        height, width = display_slice(grid, 0, plane).shape
        edge = pixel_mm(grid, plane)
        assert abs(height * edge - extent[down]) <= edge
        assert abs(width * edge - extent[across]) <= edge


@settings(max_examples=40, deadline=None)
@given(grid=nifti_volumes())
def test_the_index_counts_in_storage_order(grid: Volume) -> None:
    data = np.moveaxis(np.zeros(grid.shape, dtype=np.float32), slice_axis(grid), 0)
    data += np.arange(len(data), dtype=np.float32)[:, None, None]
    ramp = Volume(np.moveaxis(data, 0, slice_axis(grid)), grid.affine)
    for index in (0, 3, slice_count(grid) - 1):
        assert np.all(display_slice(ramp, index) == index)


def test_an_index_outside_is_refused() -> None:
    volume = Volume(np.zeros((4, 5, 6)), np.eye(4))
    for index in (-1, 6):
        with pytest.raises(Invalid, match="the slices are 0 to 5"):
            display_slice(volume, index)


def _lopsided_head(grid: Volume) -> Volume:
    head = np.where(nifti_ball(grid, (0, 0, 0), 45.0), 500 + 20 * nifti_texture(grid), 0)
    head += 400.0 * nifti_ball(grid, (-22, 0, 15), 10.0)
    return Volume(head.astype(np.float32), grid.affine)


@settings(max_examples=12, deadline=None)
@given(grid=nifti_volumes(largest_tilt=10.0))
def test_the_chosen_slice_crosses_a_one_sided_bright_lesion(grid: Volume) -> None:
    lesion = Volume(nifti_ball(grid, (-22, 0, 15), 10.0).astype(np.uint8), grid.affine)
    best, *_ = chosen = representative_slices(_lopsided_head(grid), 3)
    assert slice_areas(lesion, {1}, "axial")[best] > 0
    assert len(set(chosen)) == 3


def test_the_choice_is_the_same_every_time() -> None:
    grid = Volume(np.zeros((50, 50, 50), dtype=np.uint8), np.diag([2.0, 2.0, 2.0, 1.0]) - [[0, 0, 0, 49.0]])
    head = _lopsided_head(grid)
    assert representative_slices(head, 4) == representative_slices(head, 4)


@pytest.mark.parametrize("modality", ["flair", "t1"])  # the easiest and the hardest
def test_the_chosen_slice_crosses_the_tumour_of_real_cases(modality: str, hounsfield_data: Path) -> None:
    for case in sorted((hounsfield_data / "brain3d").glob("BraTS2021_*")):
        truth = read_nifti(case / f"{case.name}_seg.nii.gz", Limits())
        areas = slice_areas(truth, {1, 2, 4}, "axial")
        chosen = representative_slices(read_nifti(case / f"{case.name}_{modality}.nii.gz", Limits()))[0]
        assert areas[chosen] > 0.5 * areas[largest_slice(truth, {1, 2, 4}) or 0]
