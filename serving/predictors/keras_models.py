"""Detection and classification of slices with a Keras model: any image classifier with a softmax or sigmoid head.

Besides this platform's own networks this serves the ResNet50 files of older systems (224 × 224 × 3, `.keras` or
`.h5`): their input size, normalisation and class order stand in `model.yaml`.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from serving.predictors.base import InvalidInput, Value
from serving.predictors.keras_files import open_model
from serving.predictors.package import InvalidPackage, ModelPackage
from serving.predictors.slices import Preprocessing, prepare

Float: TypeAlias = NDArray[np.float32]

CLASSES = {
    "detection": ("no_tumour", "tumour"),
    "classification": ("glioma", "meningioma", "notumor", "pituitary"),
}
BATCH = 16
MIN_PIXELS = 8


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Architecture(_Settings):
    """`architecture:` of the manifest. `classes` in the file's own order; for one sigmoid unit the second is "true"."""

    name: str
    classes: list[str]


class Inference(_Settings):
    """`inference:` of the manifest. `mirror`: average with the left-right mirrored slice."""

    mirror: bool = False


class SliceClassifier:
    """Predictor of `probabilities` from `image`. Stateless after construction, so thread-safe."""

    def __init__(self, package: ModelPackage, model: Any) -> None:
        self._package = package
        manifest = package.manifest
        try:
            self._preprocessing = Preprocessing.model_validate(manifest.preprocessing)
            self._inference = Inference.model_validate(manifest.inference)
            classes = Architecture.model_validate(manifest.architecture).classes
        except ValidationError as error:
            raise InvalidPackage(
                f"{manifest.name}: model.yaml does not suit a slice classifier: {error}"
            ) from error
        self._columns = _columns(classes, manifest.task, manifest.name)
        self._model = model
        self._check_model(len(classes))

    @property
    def package(self) -> ModelPackage:
        """The package it was loaded from."""
        return self._package

    def predict(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """`image` (N, H, W) raw intensities, row 0 anterior → `probabilities` (N, classes) float32, rows sum to 1.

        Raises InvalidInput for anything that is not a stack of finite slices.
        """
        prepared = prepare(_checked(inputs), self._preprocessing)
        found = self._probabilities(prepared)
        if self._inference.mirror:
            found = (found + self._probabilities(prepared[:, :, ::-1])) / np.float32(2.0)
        return {"probabilities": found}

    def _probabilities(self, prepared: Float) -> Float:
        """(N, S, S, 3) → (N, classes) in the platform's order."""
        parts = [prepared[start : start + BATCH] for start in range(0, len(prepared), BATCH)]
        raw = np.concatenate([self._run(np.ascontiguousarray(part)) for part in parts])
        if raw.shape[1] == 1:
            raw = np.concatenate([1 - raw, raw], axis=1)
        return np.ascontiguousarray(raw[:, self._columns])

    def _run(self, part: Float) -> Float:
        return np.asarray(self._model.predict_on_batch(part), dtype=np.float32)

    def _check_model(self, classes: int) -> None:
        """Raise InvalidPackage unless the file takes and gives what the manifest says."""
        name, size = self._package.manifest.name, self._preprocessing.size
        taken, given = getattr(self._model, "input_shape", None), getattr(self._model, "output_shape", None)
        if not _fits(taken, (size, size, 3)):
            raise InvalidPackage(f"{name}: the file takes {taken}, model.yaml says (None, {size}, {size}, 3)")
        one_unit = classes == 2 and _fits(given, (1,))
        if not one_unit and not _fits(given, (classes,)):
            raise InvalidPackage(f"{name}: the file gives {given}, model.yaml lists {classes} classes")
        # Also builds Keras' prediction function now, before several threads could ask for it at once.
        noise = np.random.default_rng(0).normal(0, 50, (2, size, size, 3)).astype(np.float32)
        raw = self._run(noise)
        if (
            raw.min() < 0
            or raw.max() > 1
            or (raw.shape[1] > 1 and not np.allclose(raw.sum(axis=1), 1, atol=1e-3))
        ):
            raise InvalidPackage(
                f"{name}: the file's outputs are no probabilities; it must end in softmax or sigmoid"
            )


def load(package: ModelPackage) -> SliceClassifier:
    """The package's Keras file behind the predictor contract. Raises InvalidPackage."""
    manifest = package.manifest
    if manifest.framework != "keras" or manifest.task not in CLASSES:
        raise InvalidPackage(
            f"{manifest.name}: slice-classifier serves Keras detection and classification models"
        )
    return SliceClassifier(package, open_model(package.weights))


def _columns(classes: list[str], task: str, name: str) -> list[int]:
    """For each class of the platform its column in the file."""
    wanted = CLASSES[task]
    if sorted(classes) != sorted(wanted):
        raise InvalidPackage(f"{name}: architecture.classes is {classes}, not an order of {list(wanted)}")
    return [classes.index(label) for label in wanted]


def _fits(shape: object, wanted: tuple[int, ...]) -> bool:
    """Whether a Keras shape, batch axis first, allows the wanted one."""
    if not isinstance(shape, tuple) or len(shape) != len(wanted) + 1:
        return False
    return all(actual in (None, expected) for actual, expected in zip(shape[1:], wanted, strict=True))


def _checked(inputs: Mapping[str, Value]) -> Float:
    image = inputs.get("image")
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "fiu" or image.ndim != 3:
        raise InvalidInput("input 'image' must be a numeric array (N, H, W): N slices of raw intensities")
    if image.shape[0] < 1 or min(image.shape[1:]) < MIN_PIXELS:
        raise InvalidInput(
            f"input 'image' is {image.shape}: at least one slice of {MIN_PIXELS} pixels a side"
        )
    slices = image.astype(np.float32)
    if not np.isfinite(slices).all():
        raise InvalidInput("input 'image' has values that are not finite")
    return slices
