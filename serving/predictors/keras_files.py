"""Opening Keras files that anyone may have made: `.keras` and legacy `.h5`, without running any code from the file.

A Keras file is a description of layers plus weights. Four things in a description can carry or name code: Lambda
layers, layers that wrap another framework's model, custom objects, and references to functions of arbitrary modules.
The description is read as plain JSON and searched for them before Keras sees the file.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from serving.predictors.keras_backend import keras
from serving.predictors.package import InvalidPackage

MAX_UNPACKED_BYTES = 2 * 1024**3
MAX_CONFIG_BYTES = 32 * 1024**2
_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
_CODE_LAYERS = {
    "Lambda",
    "TorchModuleWrapper",
    "TFSMLayer",
    "JaxLayer",
    "FlaxLayer",
    "TFOpLambda",
    "SlicingOpLambda",
}
_LAMBDAS = {"__lambda__", "function"}


def open_model(path: Path) -> Any:
    """The Keras model in a `.keras` or `.h5` file, ready for inference. Raises InvalidPackage saying why not."""
    refuse_code(read_config(path), path.name)
    try:
        return keras.models.load_model(path, safe_mode=True, compile=False)
    except (ValueError, TypeError, KeyError, OSError, AttributeError) as error:
        raise InvalidPackage(f"{path.name}: Keras cannot build the model: {error}") from error


def read_config(path: Path) -> Any:
    """The model's description as plain JSON values. Raises InvalidPackage if the file is no whole model."""
    try:
        match path.suffix:
            case ".keras":
                return json.loads(_zipped_config(path))
            case ".h5" | ".hdf5":
                return json.loads(_hdf5_config(path))
    except (zipfile.BadZipFile, OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidPackage(f"{path.name}: not a readable Keras file: {error}") from error
    raise InvalidPackage(f"{path.name}: Keras weights end in .keras or .h5")


def refuse_code(config: Any, name: str) -> None:
    """Raise InvalidPackage if the description of a model carries code or names objects outside Keras."""
    for node in _objects(config):
        kind, module = str(node["class_name"]), node.get("module")
        if kind in _CODE_LAYERS:
            raise InvalidPackage(
                f"{name}: refused, it has a {kind} layer: such a layer carries code that would run when the file is "
                f"loaded. Replace it by standard Keras layers and save the model again"
            )
        if kind in _LAMBDAS:
            raise InvalidPackage(f"{name}: refused, it refers to a Python function, which may run any code")
        registered = node.get("registered_name")
        outside = isinstance(module, str) and module.split(".")[0] not in ("keras", "tensorflow")
        if outside or (isinstance(registered, str) and ">" in registered):
            raise InvalidPackage(
                f"{name}: refused, {kind!r} is a custom object ({module or registered}); only layers that come with "
                f"Keras are loaded"
            )


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every serialised object in a description, at any depth."""
    waiting = [config]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "class_name" in node:
                yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _zipped_config(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        if set(sizes) != _MEMBERS:
            odd = sorted(set(sizes) ^ _MEMBERS)
            raise InvalidPackage(
                f"{path.name}: unexpected or missing in the .keras archive: {', '.join(odd)}"
            )
        if sum(sizes.values()) > MAX_UNPACKED_BYTES or sizes["config.json"] > MAX_CONFIG_BYTES:
            raise InvalidPackage(f"{path.name}: unpacks to more than {MAX_UNPACKED_BYTES} bytes")
        return archive.read("config.json")


def _hdf5_config(path: Path) -> bytes:
    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config")
    if config is None:
        raise InvalidPackage(f"{path.name}: holds weights only; save the whole model (model.save)")
    return config if isinstance(config, bytes) else str(config).encode()
