"""The contract between framework code and the adapters that host it."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from serving.predictors.package import ModelPackage
from shared.errors import Invalid
from shared.imaging.volume import Volume

Value: TypeAlias = NDArray[np.generic] | Volume


class InvalidInput(Invalid):
    """The input cannot be what the model was made for: wrong shape, NaN, missing channel."""

    slug, title = "invalid-model-input", "Invalid model input"


class Predictor(Protocol):
    """One loaded model. Thread-safe for `predict`; does no I/O after loading."""

    @property
    def package(self) -> ModelPackage:
        """The package it was loaded from."""

    def predict(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Named inputs to named outputs as the package's manifest lists them. Raises InvalidInput."""


Loader: TypeAlias = Callable[[ModelPackage], Predictor]
