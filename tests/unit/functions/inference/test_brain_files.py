from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from functions.inference.pipelines.brain_files import grid_of, matching_slice
from shared.db.models import StudyFile
from shared.imaging.slices import slice_axis
from shared.imaging.volume import Volume
from tests.builders import nifti_volumes


def noted(volume: Volume) -> StudyFile:
    """A file as ingest describes it."""
    details: dict[str, Any] = {"shape": list(volume.shape), "affine": volume.affine.tolist()}
    return StudyFile(details=details)


@given(nifti_volumes())
def test_a_noted_grid_is_the_grid(volume: Volume) -> None:
    assert grid_of(noted(volume)).same_grid(volume)


@given(nifti_volumes(largest_tilt=0), nifti_volumes(largest_tilt=0), st.floats(0, 1))
def test_the_matching_slice_lies_at_the_same_height(source: Volume, target: Volume, where: float) -> None:
    index = round(where * (source.shape[slice_axis(source)] - 1))
    match = matching_slice(noted(source), index, noted(target))
    apart = abs(height(source, index) - height(target, match))
    last = target.shape[slice_axis(target)] - 1
    assert apart <= target.spacing[slice_axis(target)] / 2 + 1e-6 or match in (0, last)


def height(volume: Volume, index: int) -> float:
    """World z (mm, RAS+) of the middle of an axial slice."""
    voxel = (np.array(volume.shape) - 1) / 2
    voxel[slice_axis(volume)] = index
    return float((volume.affine @ np.append(voxel, 1))[2])
