"""Which loader serves which `predictor:` name of a model.yaml. Imports a framework only when a model needs it."""

from importlib import import_module
from typing import cast

from serving.predictors.base import Loader, Predictor
from serving.predictors.package import InvalidPackage, ModelPackage

LOADERS = {
    "slice-classifier": "serving.predictors.keras_models:load",
    "multi-modal-segmentation": "serving.predictors.segmentation:load",
}


def load(package: ModelPackage) -> Predictor:
    """Load a checked package with the predictor it names. Raises InvalidPackage for an unknown name."""
    target = LOADERS.get(package.manifest.predictor)
    if target is None:
        known = ", ".join(sorted(LOADERS))
        raise InvalidPackage(
            f"{package.manifest.name}: unknown predictor {package.manifest.predictor!r}; known: {known}"
        )
    module, name = target.split(":")
    loader = cast(Loader, getattr(import_module(module), name))
    return loader(package)
