"""How the slice models are trained and measured: split, synthetic slices, port to Keras, and the shipped files."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.predictors.keras_models import CLASSES
from serving.predictors.package import load_package
from serving.predictors.registry import load
from serving.training.evaluate_slices import CLASSIFICATION, DETECTION, probabilities, roc_auc
from serving.training.slices_augment import augment, mirrored, tissue, with_lesion, with_skull, without_skull
from serving.training.slices_data import Split, brain2d, brats, brats_cases, split_of

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CATALOGUE = Path(__file__).resolve().parents[3] / "serving" / "catalogue"
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def brain() -> NDArray[np.float32]:
    """A skull-stripped grey ellipse, darker in the middle, on (120, 100)."""
    rows, columns = np.indices((120, 100))
    away = ((rows - 60) / 50) ** 2 + ((columns - 50) / 40) ** 2
    return np.where(away < 1, 0.5 + 0.2 * away, 0).astype(np.float32)


def test_the_split_depends_on_the_patient_alone_and_has_the_published_shares() -> None:
    patients = {str(number) for number in range(100)}
    parts = split_of(patients)
    assert [list(parts.values()).count(split) for split in SPLITS] == [70, 10, 20]
    assert parts == split_of({str(number) for number in reversed(range(100))})


def test_no_patient_is_in_two_splits(hounsfield_data: Path) -> None:
    groups = {split: {piece.group for piece in brain2d(hounsfield_data, split)} for split in SPLITS}
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["val"]
    assert not groups["val"] & groups["test"]
    assert not set(brats_cases(hounsfield_data, "train")) & set(brats_cases(hounsfield_data, "test"))


def test_brats_slices_are_upright_and_labelled_from_the_mask(hounsfield_data: Path) -> None:
    case = brats_cases(hounsfield_data, "test")[0]
    pieces = list(brats(hounsfield_data, case, every=20))
    assert {piece.sequence for piece in pieces} == {"t1", "t1ce", "t2", "flair"}
    for piece in pieces:
        assert piece.lesion is not None
        assert piece.tumour == bool(piece.lesion.any())
        rows = np.flatnonzero(piece.image.any(axis=1))
        columns = np.flatnonzero(piece.image.any(axis=0))
        if np.count_nonzero(piece.image) > 12000:
            assert np.ptp(rows) > np.ptp(columns)  # a head is longer from front to back than it is wide


def test_a_mirrored_half_is_symmetric_and_has_the_lesion_only_on_request(
    brain: NDArray[np.float32], rng: np.random.Generator
) -> None:
    lesion = np.zeros(brain.shape, dtype=np.bool_)
    lesion[50:60, 20:30] = True
    diseased = np.where(lesion, 1, brain).astype(np.float32)
    healthy, sick = mirrored(diseased, lesion, False, rng), mirrored(diseased, lesion, True, rng)
    assert healthy is not None
    assert sick is not None
    assert healthy.max() < 0.9 < sick.max()
    assert np.allclose(healthy > 0, (healthy > 0)[:, ::-1])


def test_a_lesion_across_the_midline_is_not_mirrored(
    brain: NDArray[np.float32], rng: np.random.Generator
) -> None:
    lesion = np.zeros(brain.shape, dtype=np.bool_)
    lesion[50:60, 45:55] = True
    assert mirrored(brain, lesion, False, rng) is None


def test_stripping_never_takes_the_lesion_away(brain: NDArray[np.float32], rng: np.random.Generator) -> None:
    at_the_rim = np.zeros(brain.shape, dtype=np.bool_)
    at_the_rim[55:65, 10:14] = True
    for _ in range(5):
        assert np.array_equal(without_skull(brain, at_the_rim, rng), brain)
        assert tissue(without_skull(brain, None, rng)).sum() < 0.95 * tissue(brain).sum()


def test_a_skull_goes_around_the_brain_not_over_it(
    brain: NDArray[np.float32], rng: np.random.Generator
) -> None:
    dressed = with_skull(brain, rng)
    edge = 12  # what the picture is padded by
    assert np.allclose(dressed[edge:-edge, edge:-edge][brain > 0], brain[brain > 0])
    assert np.count_nonzero(dressed) > np.count_nonzero(brain)


@pytest.mark.parametrize("sequence", ["t1", "t1ce", "t2", "flair", "unknown"])
def test_a_made_up_lesion_changes_tissue_and_leaves_air(
    brain: NDArray[np.float32], rng: np.random.Generator, sequence: str
) -> None:
    changed = with_lesion(brain, sequence, rng)
    assert np.abs(changed - brain)[brain > 0].max() > 0.05
    assert not changed[brain == 0].any()


def test_augmented_slices_keep_size_and_range_and_are_reproducible(brain: NDArray[np.float32]) -> None:
    first, again = (augment(brain, 64, np.random.default_rng(4)) for _ in range(2))
    assert first.shape == (64, 64)
    assert 0 <= first.min() < first.max() <= 1
    assert np.array_equal(first, again)


def test_roc_auc_counts_ties_half() -> None:
    scores = np.array([0.1, 0.4, 0.4, 0.9])
    assert roc_auc(scores, np.array([False, False, True, True])) == pytest.approx(0.875)
    assert roc_auc(scores, np.array([True, True, False, False])) == pytest.approx(0.125)


def test_the_keras_port_agrees_with_the_pytorch_network_block_by_block() -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra `training`")
    import torch

    from serving.predictors.keras_backend import keras
    from serving.training.slices_backbone import BLOCKS, SliceNet, keras_model, port

    net = SliceNet(3).eval()
    torch.nn.init.normal_(net.head.weight, std=0.02)
    model = keras_model(64, 3)
    port(net, model)
    names = ["stem_out", *(f"block{number:02d}_out" for number in range(BLOCKS)), "probabilities"]
    inner = keras.Model(model.input, [model.get_layer(name).output for name in names])
    images = np.random.default_rng(1).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    theirs = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        wanted = [value.permute(0, 2, 3, 1).numpy() for value in net.activations(theirs)]
        wanted.append(torch.softmax(net(theirs), dim=1).numpy())
    for found, expected in zip(inner.predict_on_batch(images), wanted, strict=True):
        assert np.abs(found - expected).max() < 1e-3


def test_both_shipped_files_together_are_small() -> None:
    files = [CATALOGUE / name / "model.keras" for name in (DETECTION, CLASSIFICATION)]
    assert sum(path.stat().st_size for path in files) <= 14e6


@pytest.mark.parametrize(("name", "floor"), [(DETECTION, 0.95), (CLASSIFICATION, 0.85)])
def test_the_shipped_files_are_as_accurate_as_required_on_patients_they_never_saw(
    hounsfield_data: Path, name: str, floor: float
) -> None:
    predictor = load(load_package(CATALOGUE / name))
    pieces = brain2d(hounsfield_data, "test")[::4]
    said = probabilities(predictor, pieces).argmax(axis=1)
    if name == DETECTION:
        wanted = np.array([int(piece.tumour) for piece in pieces])
    else:
        wanted = np.array([CLASSES["classification"].index(piece.label) for piece in pieces])
    assert (said == wanted).mean() >= floor
