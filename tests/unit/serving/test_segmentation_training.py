"""Training of the segmentation model on a synthetic case: preparation, augmentation, loss, one short run."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from serving.predictors.package import load_package
from serving.training import evaluate, segmentation
from serving.training.common import Row
from serving.training.evaluate_segmentation import dice
from serving.training.segmentation import Schedule, learning_rate, region_loss
from serving.training.segmentation_augment import Ranges, draw_sample, rotation, sample_at
from serving.training.segmentation_data import (
    BRAIN,
    HELD_OUT,
    IMAGES,
    MODALITIES,
    REGIONS,
    Case,
    load_case,
    read_canonical,
    standard_labels,
)

SHAPE, PATCH = (60, 70, 56), (32, 32, 32)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_case(folder: Path, enhancing: int = 4) -> Path:
    """A BraTS-like case: an ellipsoid brain, and on one side a ball of oedema, necrosis and enhancement."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    position = np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) / 2
    brain = ((position / np.array([26, 31, 24])) ** 2).sum(axis=-1) < 1
    from_tumour = np.linalg.norm(position - np.array([12, 4, 0]), axis=-1)
    seg = np.select([from_tumour < 3, from_tumour < 6, from_tumour < 9], [1, enhancing, 2], 0).astype(
        np.uint8
    )
    for name in MODALITIES:
        image = np.where(brain, 400 + 20 * rng.standard_normal(SHAPE) + 150 * (seg > 0), 0)
        Nifti1Image(image.astype(np.int16), LPS).to_filename(folder / f"{folder.name}_{name}.nii.gz")
    Nifti1Image(seg, LPS).to_filename(folder / f"{folder.name}_seg.nii.gz")
    return folder


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return load_case(write_case(tmp_path_factory.mktemp("data") / "A"))


def test_a_case_is_read_in_ras_order_whatever_its_storage(tmp_path: Path) -> None:
    patient: NDArray[np.int16] = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
    Nifti1Image(patient, np.eye(4)).to_filename(tmp_path / "ras.nii.gz")
    stored_as_slp = np.ascontiguousarray(patient[::-1, ::-1].transpose(2, 0, 1))
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = 1, -1, -1, 1
    Nifti1Image(stored_as_slp, affine).to_filename(tmp_path / "slp.nii.gz")
    np.testing.assert_array_equal(read_canonical(tmp_path / "ras.nii.gz"), patient)
    np.testing.assert_array_equal(read_canonical(tmp_path / "slp.nii.gz"), patient)


def test_volumes_that_are_not_at_1_mm_are_refused(tmp_path: Path) -> None:
    Nifti1Image(np.zeros((3, 3, 3), np.int16), np.diag([2.0, 1.0, 1.0, 1.0])).to_filename(
        tmp_path / "x.nii.gz"
    )
    with pytest.raises(ValueError, match="1 mm"):
        read_canonical(tmp_path / "x.nii.gz")


def test_both_label_conventions_mean_the_same() -> None:
    np.testing.assert_array_equal(standard_labels(np.array([0, 1, 2, 4])), [0, 1, 2, 3])
    np.testing.assert_array_equal(standard_labels(np.array([0.0, 1.0, 2.0, 3.0], np.float32)), [0, 1, 2, 3])


def test_the_lesion_is_painted_over_from_the_healthy_hemisphere(case: Case) -> None:
    whole = case.volume[REGIONS][0] > 0
    assert case.healthy[REGIONS][0].sum() < 0.02 * whole.sum()
    before, after = case.volume[IMAGES][:, whole].mean(), case.healthy[IMAGES][:, whole].mean()
    assert before > 1.5
    assert abs(float(after)) < 0.5


def test_a_seed_repeats_its_samples_and_another_seed_does_not(case: Case) -> None:
    first, again, other = (
        draw_sample([case], np.random.default_rng(seed), PATCH, Ranges())[0] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_samples_are_finite_with_nested_regions_and_an_empty_background(case: Case) -> None:
    rng = np.random.default_rng(3)
    seen = 0.0
    for _ in range(12):
        images, (whole, core, enhancing) = draw_sample([case], rng, PATCH, Ranges())
        assert images.shape == (4, *PATCH)
        assert torch.isfinite(images).all()
        assert ((whole >= core) & (core >= enhancing)).all()
        seen += float(whole.sum())
    assert seen > 0


def test_without_healthy_brains_or_lesions_to_paste_a_patch_shows_the_case_itself(case: Case) -> None:
    still = Ranges(
        spacing_mm=(1.0, 1.0), rotation_deg=0, stretch=0, elastic_mm=0, healthy_base=0, paste_on_original=0
    )
    _, regions = draw_sample([case], np.random.default_rng(5), (64, 72, 60), still)
    assert float(regions[0].sum()) == pytest.approx(float(case.volume[REGIONS][0].sum()), rel=0.05)


def test_sampling_at_voxel_centres_returns_the_voxels_and_zero_outside(case: Case) -> None:
    grid = torch.stack(
        torch.meshgrid(*[torch.arange(n) for n in case.volume.shape[1:]], indexing="ij"), dim=-1
    )
    torch.testing.assert_close(sample_at(case.volume, grid.float()), case.volume, atol=1e-3, rtol=1e-3)
    assert not sample_at(case.volume, grid.float() + 500)[BRAIN].any()


def test_rotations_keep_lengths_and_handedness() -> None:
    turn = rotation(np.array([20.0, -35.0, 70.0]))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)


def test_the_loss_prefers_the_right_mask() -> None:
    target = torch.zeros(1, 3, 16, 16, 16)
    target[:, :, 4:12, 4:12, 4:12] = 1
    right, undecided, wrong = (region_loss(scale * (target - 0.5), target) for scale in (30.0, 0.0, -30.0))
    assert float(right) < 0.01
    assert right < undecided < wrong


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    schedule = Schedule(minutes=1, seed=0, workers=0)
    assert 0 < learning_rate(schedule, 0) < 0.1 * schedule.peak_rate
    assert learning_rate(schedule, 0.04) > 0.95 * schedule.peak_rate
    assert learning_rate(schedule, 1) == pytest.approx(0)


def test_dice_of_masks() -> None:
    left, right = np.array([True, True, False]), np.array([False, True, False])
    assert dice(left, right) == pytest.approx(2 / 3)
    assert dice(left, left) == 1
    assert dice(left, ~left) == 0
    assert dice(left & False, left & False) == 1


def test_the_table_aligns_one_line_per_row() -> None:
    rows = [Row("a", "Dice WT", "held-out", 0.5, 2), Row("longer-name", "accuracy", "test", 1.0, 30)]
    header, first, second = evaluate.table(rows).splitlines()
    assert header.split() == ["model", "metric", "split", "value", "n"]
    assert first.index("Dice") == second.index("accuracy")
    assert "0.5000" in first


def test_a_short_run_writes_a_package_that_loads_and_measures_only_what_it_did_not_train_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Trained", HELD_OUT[0]):
        write_case(tmp_path / "data" / "brain3d" / name, enhancing=3)
    options = [
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
        "--minutes",
        "0.01",
        "--workers",
        "0",
    ]
    monkeypatch.setattr(sys, "argv", ["segmentation", *options])
    segmentation.main()
    manifest = load_package(tmp_path / "out").manifest
    assert manifest.training_data[0].cases == "Trained"
    assert {metric.split for metric in manifest.metrics} == {"held-out", f"held-out: {HELD_OUT[0]}"}
    assert set(manifest.files) == {"model.safetensors", "README.md"}
    assert "Trained" in (tmp_path / "out" / "README.md").read_text()
