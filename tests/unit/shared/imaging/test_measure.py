"""Volumes, boxes and diameters of known shapes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings

from shared.imaging.measure import label_volumes_ml, largest_slice, region_extent
from shared.imaging.volume import Volume
from tests.builders import nifti_ball, nifti_volumes


def test_volumes_add_the_labels_of_each_region() -> None:
    data = np.zeros((10, 10, 10), dtype=np.uint8)
    data[0], data[1], data[2, :5] = 1, 2, 3
    label_map = Volume(data, np.diag([1.0, -2.0, 5.0, 1.0]))  # 0.01 ml a voxel
    volumes = label_volumes_ml(label_map, {"WT": {1, 2, 3}, "TC": [1, 3], "ET": (3, 3), "none": {9}})
    assert volumes == pytest.approx({"WT": 2.5, "TC": 1.5, "ET": 0.5, "none": 0.0})


@settings(max_examples=20, deadline=None)
@given(grid=nifti_volumes(largest_tilt=10.0))
def test_a_ball_has_its_volume_place_and_diameter_on_every_grid(grid: Volume) -> None:
    centre, radius = (-12.0, 8.0, 5.0), 25.0
    ball = Volume(nifti_ball(grid, centre, radius).astype(np.uint8), grid.affine)
    extent = region_extent(ball, {1})
    assert extent is not None
    assert extent.volume_ml == pytest.approx(4 / 3 * math.pi * radius**3 / 1000, rel=0.05)
    assert extent.centroid == pytest.approx(centre, abs=1.5)
    coarsest = max(grid.spacing)
    assert extent.diameter_mm == pytest.approx(2 * radius, abs=1.5 * coarsest)
    for axis in range(3):
        assert extent.low[axis] == pytest.approx(centre[axis] - radius, abs=1.5 * coarsest)
        assert extent.high[axis] == pytest.approx(centre[axis] + radius, abs=1.5 * coarsest)


def test_the_diameter_runs_corner_to_corner_in_one_slice() -> None:
    data = np.zeros((20, 20, 8), dtype=np.uint8)
    data[2:5, 3:7, 5] = 1  # 3 × 4 voxels
    data[2, 3, :] = 1  # a column through the slices does not lengthen it
    extent = region_extent(Volume(data, np.diag([2.0, 2.0, 5.0, 1.0])), {1})
    assert extent is not None
    assert extent.diameter_mm == pytest.approx(2 * 5)  # 3-4-5
    assert extent.diameter_slice == 5
    assert (extent.low, extent.high) == ((3.0, 5.0, -2.5), (9.0, 13.0, 37.5))


def test_nothing_marked_has_no_extent() -> None:
    empty = Volume(np.zeros((4, 4, 4), dtype=np.uint8), np.eye(4))
    assert region_extent(empty, {1, 2}) is None
    assert largest_slice(empty, {1, 2}) is None
