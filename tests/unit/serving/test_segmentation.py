"""The segmentation predictor: what it refuses, and that it repeats itself."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from serving.predictors.base import InvalidInput, Predictor
from serving.predictors.intensity import normalise
from serving.predictors.package import InvalidPackage, load_package
from serving.predictors.registry import load
from shared.imaging.volume import Volume
from tests.model_packages import MODALITIES, segmenter

Inputs = dict[str, Volume]


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return load(load_package(segmenter(tmp_path, mirror_axes=[0])))


def brain(shape: tuple[int, int, int] = (20, 24, 18)) -> Inputs:
    """Random signal in a box with an empty rim."""
    rng = np.random.default_rng(4)
    found: Inputs = {}
    for name in MODALITIES:
        data = np.zeros(shape, np.int16)
        data[2:-2, 2:-2, 2:-2] = rng.integers(1, 900, data[2:-2, 2:-2, 2:-2].shape)
        found[name] = Volume(data, np.diag([-1.0, -1.0, 2.0, 1.0]))
    return found


def labels_of(predictor: Predictor, inputs: Inputs) -> Volume:
    result = predictor.predict(inputs)["label_map"]
    assert isinstance(result, Volume)
    return result


def test_the_same_input_gives_the_same_mask_and_is_left_untouched(predictor: Predictor) -> None:
    inputs = brain()
    first, second = labels_of(predictor, inputs), labels_of(predictor, inputs)
    np.testing.assert_array_equal(first.data, second.data)
    np.testing.assert_array_equal(inputs["t2"].data, brain()["t2"].data)


def test_labels_come_as_uint8_from_0_to_3_and_never_outside_the_head(predictor: Predictor) -> None:
    inputs = brain()
    labels = labels_of(predictor, inputs)
    assert labels.data.dtype == np.uint8
    assert set(np.unique(labels.data)) <= {0, 1, 2, 3}
    assert not labels.data[inputs["t1"].data == 0].any()


def test_intensities_on_another_scale_give_the_same_mask(predictor: Predictor) -> None:
    inputs = brain()
    louder = {
        name: Volume(volume.data.astype(np.float64) * 7, volume.affine) for name, volume in inputs.items()
    }
    same = np.mean(labels_of(predictor, inputs).data == labels_of(predictor, louder).data)
    assert same > 0.999


def without(name: str) -> Callable[[Inputs], None]:
    def change(inputs: Inputs) -> None:
        del inputs[name]

    return change


def spoilt(value: float) -> Callable[[Inputs], None]:
    def change(inputs: Inputs) -> None:
        data = inputs["t2"].data.astype(np.float32)
        data[5, 5, 5] = value
        inputs["t2"] = Volume(data, inputs["t2"].affine)

    return change


def empty(inputs: Inputs) -> None:
    inputs["flair"] = Volume(np.zeros_like(inputs["flair"].data), inputs["flair"].affine)


def shifted(inputs: Inputs) -> None:
    affine = inputs["t1ce"].affine.copy()
    affine[0, 3] += 3.0
    inputs["t1ce"] = Volume(inputs["t1ce"].data, affine)


def flat(inputs: Inputs) -> None:
    for name in MODALITIES:
        inputs[name] = Volume(inputs[name].data, np.diag([1.0, 1.0, 0.0, 1.0]))


def gigantic(inputs: Inputs) -> None:
    for name in MODALITIES:
        inputs[name] = Volume(inputs[name].data, np.diag([200.0, 200.0, 200.0, 1.0]))


def four_dimensional(inputs: Inputs) -> None:
    inputs["t1"] = Volume(inputs["t1"].data[..., None], inputs["t1"].affine)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("flair"), "flair is missing"),
        (spoilt(np.nan), "t2 has voxels that are not finite"),
        (spoilt(np.inf), "t2 has voxels that are not finite"),
        (empty, "flair is zero everywhere"),
        (shifted, "t1ce is not on the grid of t1"),
        (flat, "affine that cannot be inverted"),
        (gigantic, "spans"),
        (four_dimensional, "t1 must be one 3D image"),
    ],
)
def test_unusable_input_is_refused_with_its_reason(
    predictor: Predictor, change: Callable[[Inputs], None], says: str
) -> None:
    inputs = brain()
    change(inputs)
    with pytest.raises(InvalidInput, match=says):
        predictor.predict(inputs)


def test_a_single_slice_is_segmented_like_any_volume(predictor: Predictor) -> None:
    inputs = {name: Volume(volume.data[:, :, 9:10], volume.affine) for name, volume in brain().items()}
    assert labels_of(predictor, inputs).data.shape == (20, 24, 1)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    folder = segmenter(tmp_path)
    manifest = yaml.safe_load((folder / "model.yaml").read_text())
    manifest["architecture"]["arguments"]["widths"] = [4, 4]
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest))
    with pytest.raises(InvalidPackage, match="do not fit"):
        load(load_package(folder))


def test_unknown_inference_options_are_refused(tmp_path: Path) -> None:
    folder = segmenter(tmp_path)
    manifest = yaml.safe_load((folder / "model.yaml").read_text())
    manifest["inference"]["windows"] = [8, 8, 8]
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest))
    with pytest.raises(InvalidPackage, match="windows"):
        load(load_package(folder))


def test_normalising_leaves_the_background_at_zero_and_ignores_a_few_glaring_voxels() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(500, 50, (20, 20, 20)).astype(np.float32)
    image[:4] = 0
    calm = normalise(image)
    image[10, 10, :5] = 1e6
    glaring = normalise(image)
    assert not glaring[:4].any()
    np.testing.assert_allclose(glaring[12:], calm[12:], atol=0.1)
    assert normalise(np.zeros((3, 3, 3))).sum() == 0
    assert normalise(np.full((3, 3, 3), 7)).sum() == 0
