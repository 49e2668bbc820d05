"""From regions to labels, and the clean-up."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from serving.predictors.tumour_labels import (
    ED,
    ET,
    NCR,
    compose,
    drop_little_enhancement,
    drop_small_components,
)

masks = arrays(bool, (4, 5, 6), elements=st.booleans())


@given(masks, masks, masks)
def test_every_region_lies_inside_the_next_larger_one(
    whole: np.ndarray, core: np.ndarray, enhancing: np.ndarray
) -> None:
    labels = compose(whole, core, enhancing)
    np.testing.assert_array_equal(labels > 0, whole)
    np.testing.assert_array_equal((labels == NCR) | (labels == ET), whole & core)
    np.testing.assert_array_equal(labels == ET, whole & core & enhancing)


def test_components_below_the_volume_are_cleared_and_others_kept() -> None:
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[:3, :3, :3] = ED
    labels[8, 8, 8] = ET
    kept = drop_small_components(labels, voxel_mm3=2.0, minimum_mm3=20.0)
    assert np.count_nonzero(kept) == 27
    assert kept[8, 8, 8] == 0


def test_the_volume_counts_in_mm3_not_in_voxels() -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[:2, :2, :2] = ED
    assert np.count_nonzero(drop_small_components(labels, voxel_mm3=10.0, minimum_mm3=80.0)) == 8
    assert np.count_nonzero(drop_small_components(labels, voxel_mm3=9.9, minimum_mm3=80.0)) == 0


def test_labels_that_touch_at_a_corner_are_one_tumour() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0, 0, 0], labels[1, 1, 1] = ED, ET
    np.testing.assert_array_equal(drop_small_components(labels, 1.0, 2.0), labels)


def test_an_empty_label_map_stays_empty() -> None:
    labels = np.zeros((3, 3, 3), np.uint8)
    assert not drop_small_components(labels, 1.0, 100.0).any()


def test_very_little_enhancement_becomes_necrotic_core() -> None:
    labels = np.array([[[NCR, ET, ED, ET]]], np.uint8)
    np.testing.assert_array_equal(drop_little_enhancement(labels, 1.0, 3.0), [[[NCR, NCR, ED, NCR]]])
    np.testing.assert_array_equal(drop_little_enhancement(labels, 1.0, 2.0), labels)
