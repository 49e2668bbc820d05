"""Keras slice models: older ResNet50 files and our own run through one predictor; files that carry code are refused."""

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from serving.predictors.base import InvalidInput, Predictor
from serving.predictors.keras_backend import keras
from serving.predictors.package import InvalidPackage, load_package
from serving.predictors.registry import load
from serving.predictors.slices import Preprocessing, prepare
from tests.model_packages import write_package

# Keras on the PyTorch backend hands its variables to NumPy 2 in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

DETECTION = ["no_tumour", "tumour"]
CLASSIFICATION = ["glioma", "meningioma", "notumor", "pituitary"]


def slices(count: int = 3, height: int = 90, width: int = 70) -> NDArray[np.float32]:
    """Discs of noise with different brightness: anything that is not constant."""
    rows, columns = np.indices((height, width))
    disc = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (0.4 * width) ** 2
    noise = np.random.default_rng(3).uniform(50, 900, (count, height, width))
    return (noise * disc).astype(np.float32)


def package(folder: Path, model: Any, task: str, classes: list[str], **changes: Any) -> Path:
    """A package around a Keras model that is saved under `changes['weights']` (model.keras unless named)."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = changes.get("weights", "model.keras")
    if model is not None:
        model.save(folder / weights)
    manifest = {
        "name": f"brain-{task}",
        "task": task,
        "framework": "keras",
        "predictor": "slice-classifier",
        "weights": weights,
        "architecture": {"name": "resnet50", "classes": classes},
        "preprocessing": {"size": 224, "normalisation": "caffe"},
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, -1, -1]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, len(classes)]}],
    }
    return write_package(folder, manifest | changes)


def resnet50(units: int, activation: str) -> Any:
    """The network of the older systems, untrained."""
    keras.utils.set_random_seed(5)
    base = keras.applications.ResNet50(
        weights=None, include_top=False, input_shape=(224, 224, 3), pooling="avg"
    )
    return keras.Model(base.input, keras.layers.Dense(units, activation=activation)(base.output))


def tiny(units: int = 4, activation: str | None = "softmax", size: int = 32) -> Any:
    """The smallest image classifier that uses its input."""
    keras.utils.set_random_seed(6)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((size, size, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(units, activation=activation),
        ]
    )


def tiny_package(folder: Path, model: Any, classes: list[str] | None = None, **changes: Any) -> Path:
    """A 32-pixel classification package."""
    settings: dict[str, Any] = {"preprocessing": {"size": 32, "normalisation": "unit"}} | changes
    return package(folder, model, "classification", classes or CLASSIFICATION, **settings)


def run(predictor: Predictor, images: NDArray[np.float32]) -> NDArray[np.float32]:
    found = predictor.predict({"image": images})["probabilities"]
    assert isinstance(found, np.ndarray)
    return found.astype(np.float32)


@pytest.mark.parametrize("weights", ["model.keras", "ResNet50-Binary-Detection.h5"])
@pytest.mark.parametrize(("units", "activation"), [(1, "sigmoid"), (2, "softmax")])
def test_an_older_resnet50_detector_gives_two_probabilities_whatever_its_head(
    tmp_path: Path, weights: str, units: int, activation: str
) -> None:
    model = resnet50(units, activation)
    folder = package(tmp_path / "old", model, "detection", DETECTION, weights=weights)
    found = run(load(load_package(folder)), slices())
    raw = model.predict_on_batch(prepare(slices(), Preprocessing(size=224, normalisation="caffe")))
    assert found.shape == (3, 2)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(found[:, 1], raw[:, -1], atol=1e-4)


@pytest.mark.parametrize("weights", ["model.keras", "Brain-Tumor-Classification-ResNet50.h5"])
def test_an_older_resnet50_classifier_with_its_own_class_order_maps_right(
    tmp_path: Path, weights: str
) -> None:
    model = resnet50(4, "softmax")
    order = ["pituitary", "notumor", "glioma", "meningioma"]
    folder = package(tmp_path / "old", model, "classification", order, weights=weights)
    found = run(load(load_package(folder)), slices())
    raw = model.predict_on_batch(prepare(slices(), Preprocessing(size=224, normalisation="caffe")))
    assert np.allclose(found, raw[:, [2, 3, 1, 0]], atol=1e-4)


def test_a_sigmoid_unit_is_the_second_class_of_the_file(tmp_path: Path) -> None:
    settings = {"preprocessing": {"size": 32}}
    usual = package(tmp_path / "a", tiny(1, "sigmoid"), "detection", DETECTION, **settings)
    turned = package(tmp_path / "b", tiny(1, "sigmoid"), "detection", DETECTION[::-1], **settings)
    first, second = run(load(load_package(usual)), slices()), run(load(load_package(turned)), slices())
    assert np.allclose(first, second[:, ::-1], atol=1e-6)
    assert not np.allclose(first, second)


def test_a_large_batch_gives_what_single_slices_give(tmp_path: Path) -> None:
    predictor = load(load_package(tiny_package(tmp_path / "m", tiny())))
    images = slices(37)
    alone = np.concatenate([run(predictor, image[None]) for image in images])
    assert np.allclose(run(predictor, images), alone, atol=1e-5)


def test_mirroring_makes_left_and_right_count_the_same(tmp_path: Path) -> None:
    predictor = load(load_package(tiny_package(tmp_path / "m", tiny(), inference={"mirror": True})))
    plain = load(load_package(tiny_package(tmp_path / "p", tiny())))
    images = slices()
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    assert np.allclose(run(predictor, images), run(predictor, mirrored), atol=1e-5)
    assert not np.allclose(run(plain, images), run(plain, mirrored), atol=1e-7)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((20, 20), np.float32),
        np.zeros((0, 20, 20), np.float32),
        np.zeros((1, 4, 20), np.float32),
        np.full((1, 20, 20), np.nan, np.float32),
        np.array([[["a"]]]),
    ],
)
def test_what_is_no_stack_of_finite_slices_is_refused(tmp_path: Path, image: NDArray[np.generic]) -> None:
    predictor = load(load_package(tiny_package(tmp_path / "m", tiny())))
    with pytest.raises(InvalidInput, match="image"):
        predictor.predict({"image": image})


def test_a_missing_image_is_refused(tmp_path: Path) -> None:
    predictor = load(load_package(tiny_package(tmp_path / "m", tiny())))
    with pytest.raises(InvalidInput, match="image"):
        predictor.predict({})


@pytest.mark.parametrize("weights", ["model.keras", "model.h5"])
def test_a_file_with_a_lambda_layer_is_refused_and_told_why(tmp_path: Path, weights: str) -> None:
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Lambda(lambda x: x * 2), *tiny().layers],
    )
    folder = tiny_package(tmp_path / "m", model, weights=weights)
    with pytest.raises(InvalidPackage, match=r"Lambda layer.*carries code"):
        load(load_package(folder))


@keras.saving.register_keras_serializable(package="Clinic")
class Doubling(keras.layers.Layer):  # type: ignore[misc]
    """A layer that only its author's program knows."""

    def call(self, inputs: Any) -> Any:
        return inputs * 2


def test_a_file_with_a_custom_layer_is_refused_even_where_the_layer_is_known(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((32, 32, 3)), Doubling(), *tiny().layers])
    with pytest.raises(InvalidPackage, match="custom object"):
        load(load_package(tiny_package(tmp_path / "m", model)))


def test_a_description_that_names_a_function_of_another_module_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    tiny().save(tmp_path / "good.keras")
    with (
        zipfile.ZipFile(tmp_path / "good.keras") as good,
        zipfile.ZipFile(folder / "model.keras", "w") as bad,
    ):
        for member in good.namelist():
            content = good.read(member)
            if member == "config.json":
                config = json.loads(content)
                config["config"]["layers"][1] |= {"module": "os", "class_name": "system"}
                content = json.dumps(config).encode()
            bad.writestr(member, content)
    with pytest.raises(InvalidPackage, match="custom object"):
        load(load_package(tiny_package(folder, None)))


def test_an_archive_with_anything_besides_the_model_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    tiny().save(folder / "model.keras")
    with zipfile.ZipFile(folder / "model.keras", "a") as archive:
        archive.writestr("../../evil.py", "print()")
    with pytest.raises(InvalidPackage, match=r"evil\.py"):
        load(load_package(tiny_package(folder, None)))


@pytest.mark.parametrize("weights", ["model.keras", "model.h5", "model.pkl"])
def test_a_file_that_is_no_keras_model_is_refused(tmp_path: Path, weights: str) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / weights).write_bytes(b"\x80\x04not a model")
    with pytest.raises(InvalidPackage, match=weights):
        load(load_package(tiny_package(folder, None, weights=weights)))


def test_weights_without_a_model_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    with h5py.File(folder / "model.h5", "w") as file:
        file["kernel"] = np.zeros(3)
    with pytest.raises(InvalidPackage, match="weights only"):
        load(load_package(tiny_package(folder, None, weights="model.h5")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preprocessing": {"size": 64}}, "takes"),
        ({"preprocessing": {"size": 32, "normalisation": "zscore"}}, "normalisation"),
        ({"architecture": {"name": "x", "classes": ["glioma", "meningioma", "pituitary"]}}, "classes"),
        ({"architecture": {"name": "x", "classes": ["a", "b", "c", "d"]}}, "classes"),
        ({"inference": {"threshold": 0.5}}, "threshold"),
        ({"framework": "torch"}, "Keras"),
    ],
)
def test_a_manifest_that_does_not_suit_the_file_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidPackage, match=message):
        load(load_package(tiny_package(tmp_path / "m", tiny(), **changes)))


def test_a_file_with_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPackage, match="4 classes"):
        load(load_package(tiny_package(tmp_path / "m", tiny(units=3))))


def test_a_file_without_softmax_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPackage, match="softmax"):
        load(load_package(tiny_package(tmp_path / "m", tiny(activation=None))))
