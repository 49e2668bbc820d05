"""Whether the skull is on, where the brain is on any grid, and what the segmenter makes of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from serving.predictors import brain_extraction
from serving.predictors.base import InvalidInput
from serving.predictors.brain_extraction import brain_mask, skull_is_on
from serving.predictors.package import InvalidPackage
from serving.predictors.segmentation import MultiModalSegmenter
from serving.training.segmentation_data import MODALITIES, find_cases, modality_file, read_volume
from shared.imaging.geometry import resample_to, to_canonical
from shared.imaging.synthetic import synthetic_study
from shared.imaging.volume import Volume
from tests.unit.serving.test_segmentation_geometry import head, segmenter, turned

RAW = "TCGA-FG-6692"


class AllIsTumour(nn.Module):
    """WT, TC and ET everywhere: the label map then shows what was taken for brain."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.full((len(x), 3, *x.shape[2:]), 20.0)


@pytest.fixture(scope="module")
def raw_t1(hounsfield_data: Path) -> Volume:
    """A clinical T1 as the scanner gave it: skull on, 5.5 mm slices."""
    return read_volume(hounsfield_data / "brain3d" / f"{RAW}_native" / f"{RAW}_t1.nii.gz")


@pytest.fixture(scope="module")
def raw_brain(raw_t1: Volume) -> NDArray[np.bool_]:
    return brain_mask(raw_t1)


@pytest.fixture
def marks_all() -> MultiModalSegmenter:
    made = segmenter()
    made.network = AllIsTumour()
    return made


def overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Dice."""
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


def test_expert_stripped_images_are_taken_as_they_are(hounsfield_data: Path) -> None:
    cases = find_cases(hounsfield_data)
    assert len(cases) >= 5
    for case in cases:
        assert not any(skull_is_on(read_volume(modality_file(case, name))) for name in MODALITIES), case


def test_a_synthetic_study_is_stripped(tmp_path: Path) -> None:
    files = synthetic_study(tmp_path, resolution_mm=2).values()
    assert not any(skull_is_on(read_volume(path)) for path in files)


@pytest.mark.parametrize("sequence", MODALITIES)
def test_a_raw_scan_has_its_skull_on(hounsfield_data: Path, sequence: str) -> None:
    path = hounsfield_data / "brain3d" / f"{RAW}_native" / f"{RAW}_{sequence}.nii.gz"
    assert skull_is_on(read_volume(path))


def test_a_raw_scan_whose_air_is_zero_still_has_its_skull_on(raw_t1: Volume) -> None:
    head_alone = np.where(raw_t1.data > np.percentile(raw_t1.data, 55), raw_t1.data, 0)
    assert skull_is_on(Volume(head_alone, raw_t1.affine))


def egg(tightly: bool = False) -> NDArray[np.float32]:
    """A brain of 1.4 l at 2 mm, 0 around it."""
    shape = (68, 84, 62) if tightly else (100, 110, 90)
    place = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    inside = ((place / np.array([33, 41, 30])) ** 2).sum(axis=-1) < 1
    return np.where(inside, 300, 0).astype(np.float32)


def test_zeros_within_a_stripped_brain_and_a_tight_crop_do_not_matter() -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    assert not skull_is_on(Volume(egg(tightly=True), affine))
    holed = egg()
    holed[45:55, 40:70, 40:50] = 0
    holed *= np.random.default_rng(1).random(holed.shape) > 0.2
    assert not skull_is_on(Volume(holed, affine))


def test_air_that_is_not_zero_counts_as_not_stripped_however_little_there_is() -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    noise = np.random.default_rng(2).integers(1, 4, egg().shape)
    assert skull_is_on(Volume(np.where(egg() > 0, egg(), noise), affine))
    assert skull_is_on(Volume(np.where(egg() > 0, egg(), -1), affine))


def test_the_outline_is_where_the_experts_have_it(hounsfield_data: Path) -> None:
    t1 = read_volume(modality_file(hounsfield_data / "brain3d" / "BraTS2021_01657", "t1"))
    assert overlap(brain_mask(t1), t1.data != 0) > 0.97


def test_the_raw_brain_is_an_adults_and_leaves_out_air_eyes_and_scalp(
    raw_t1: Volume, raw_brain: NDArray[np.bool_]
) -> None:
    assert raw_brain.shape == raw_t1.shape
    assert 1400 < np.count_nonzero(raw_brain) * raw_t1.voxel_ml < 1800
    assert ndimage.label(raw_brain)[1] == 1
    # Fat of scalp and orbit is the brightest on T1.
    assert np.mean(raw_brain[raw_t1.data > np.percentile(raw_t1.data, 98)]) < 0.02


def test_another_storage_order_gives_the_same_brain(raw_t1: Volume, raw_brain: NDArray[np.bool_]) -> None:
    step = np.array([[0, -1, 0, raw_t1.shape[0] - 1], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
    # New axis 0 is the old third, new axis 1 the old first backwards, new axis 2 the old second.
    stored = Volume(np.ascontiguousarray(raw_t1.data.transpose(2, 0, 1)[:, ::-1]), raw_t1.affine @ step)
    np.testing.assert_array_equal(to_canonical(stored).data, to_canonical(raw_t1).data)
    found = brain_mask(stored)[:, ::-1].transpose(1, 2, 0)
    differing = found != raw_brain
    rim = ndimage.binary_dilation(raw_brain) & ~ndimage.binary_erosion(raw_brain)
    assert not (differing & ~rim).any()
    assert overlap(found, raw_brain) > 0.999


def test_a_tilted_grid_gives_the_same_brain(raw_t1: Volume, raw_brain: NDArray[np.bool_]) -> None:
    matrix = turned("LPS", (1.5, 1.5, 2.5), (12.0, -8.0, 15.0))
    shape = (190, 190, 90)
    middle = raw_t1.affine @ np.append((np.array(raw_t1.shape) - 1) / 2, 1)
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = middle[:3] - matrix @ ((np.array(shape) - 1) / 2)
    tilted = resample_to(raw_t1, Volume(np.broadcast_to(np.uint8(0), shape), affine), "linear")
    back = resample_to(Volume(brain_mask(tilted).astype(np.float32), affine), raw_t1, "linear")
    assert overlap(back.data.astype(np.float32) > 0.5, raw_brain) > 0.97


def test_with_the_skull_on_only_the_brain_is_segmented_and_the_answer_says_so(
    marks_all: MultiModalSegmenter, raw_t1: Volume, raw_brain: NDArray[np.bool_]
) -> None:
    result = marks_all.predict(dict.fromkeys(MODALITIES, raw_t1))
    flag, labels = result["brain_extracted"], result["label_map"]
    assert isinstance(flag, np.ndarray) and isinstance(labels, Volume)
    assert (flag.dtype, flag.tolist()) == (np.uint8, [1])
    assert labels.same_grid(raw_t1)
    assert overlap(labels.data != 0, raw_brain) > 0.999
    assert not labels.data[~raw_brain].any()


def test_one_sequence_with_its_skull_on_has_all_cut_and_where_one_ends_nothing_is_marked(
    marks_all: MultiModalSegmenter, raw_t1: Volume, raw_brain: NDArray[np.bool_]
) -> None:
    short = raw_t1.data.copy()
    short[:, :, -8:] = 0
    stripped = Volume(np.where(raw_brain, raw_t1.data, 0), raw_t1.affine)
    inputs = {"t1": raw_t1, "t1ce": stripped, "t2": stripped, "flair": Volume(short, raw_t1.affine)}
    labels = marks_all.predict(inputs)["label_map"]
    assert isinstance(labels, Volume)
    expected = raw_brain.copy()
    expected[:, :, -8:] = False
    assert overlap(labels.data != 0, expected) > 0.999
    assert not labels.data[:, :, -8:].any()


def test_stripped_images_are_segmented_whole_and_the_answer_says_so(marks_all: MultiModalSegmenter) -> None:
    inputs, _ = head(turned("LPS", (2.0, 2.0, 2.0), (0, 0, 0)), np.zeros(3))
    result = marks_all.predict(inputs)
    labels = result["label_map"]
    assert isinstance(labels, Volume)
    np.testing.assert_array_equal(result["brain_extracted"], [0])
    np.testing.assert_array_equal(labels.data != 0, inputs["t1"].data != 0)


def test_a_scan_without_a_brain_is_refused(marks_all: MultiModalSegmenter) -> None:
    noise = np.random.default_rng(3).integers(1, 500, (60, 60, 40)).astype(np.int16)
    volume = Volume(noise, np.diag([3.0, 3.0, 4.0, 1.0]))
    with pytest.raises(InvalidInput, match="not skull-stripped and no brain was found in T1"):
        marks_all.predict(dict.fromkeys(MODALITIES, volume))


def test_a_head_of_the_wrong_size_is_refused(raw_t1: Volume) -> None:
    doll = Volume(raw_t1.data, np.diag([0.5, 0.5, 0.5, 1.0]) @ raw_t1.affine)
    with pytest.raises(InvalidInput, match=r"what looks like one has 2\d\d ml"):
        brain_mask(doll)


def test_a_flat_image_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no brain was found"):
        brain_mask(Volume(np.full((20, 20, 20), 7, np.int16), np.diag([8.0, 8.0, 8.0, 1.0])))


def test_weights_that_were_not_looked_at_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(brain_extraction.SHA256, "model.pt", "0" * 64)
    with pytest.raises(InvalidPackage, match=r"model\.pt is not the file of version 1\.0\.2"):
        brain_extraction.load_networks.__wrapped__()
