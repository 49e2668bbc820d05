"""Small model packages with real networks, for tests of the model server."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from serving.predictors.package import sha256_of

MODALITIES = ("t1", "t1ce", "t2", "flair")


def write_package(folder: Path, manifest: dict[str, Any]) -> Path:
    """Write model.yaml around the files that already lie in the folder."""
    common = {
        "version": "1.0.0",
        "licence": "CC0-1.0",
        "training_data": [],
        "intended_use": "Tests of the platform.",
        "files": {path.name: sha256_of(path) for path in folder.iterdir() if path.name != "model.yaml"},
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(common | manifest))
    return folder


def segmenter(
    catalogue: Path,
    name: str = "tiny-segmentation",
    version: str = "1.0.0",
    widths: Sequence[int] = (2, 4),
    mirror_axes: Sequence[int] = (),
) -> Path:
    """An untrained segmentation network. Wider networks and mirroring make it slower."""
    import torch
    from safetensors.torch import save_file

    from serving.predictors.networks import build_network

    folder = catalogue / name / version
    folder.mkdir(parents=True)
    arguments = {"channels_in": 4, "channels_out": 3, "widths": list(widths)}
    architecture = {"name": "residual-unet-3d", "arguments": arguments}
    torch.manual_seed(len(version))
    save_file(build_network(architecture).state_dict(), folder / "weights.safetensors")
    return write_package(
        folder,
        {
            "name": name,
            "version": version,
            "task": "segmentation",
            "framework": "torch",
            "predictor": "multi-modal-segmentation",
            "weights": "weights.safetensors",
            "architecture": architecture,
            "preprocessing": {"spacing_mm": 1.0},
            "inference": {"window": [32, 32, 32], "mirror_axes": list(mirror_axes)},
            "inputs": [_volume(modality) for modality in MODALITIES],
            "outputs": [_volume("label_map")],
        },
    )


def _volume(name: str) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": [1], "content": "volume"}


def detector(catalogue: Path, name: str = "tiny-detection", version: str = "1.0.0") -> Path:
    """An untrained Keras network of slices (32 × 32) with a softmax over two classes."""
    from serving.predictors.keras_backend import keras

    folder = catalogue / name / version
    folder.mkdir(parents=True)
    keras.utils.set_random_seed(0)
    layers = [keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3, strides=4), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(2, activation="softmax")])
    with warnings.catch_warnings():  # Keras 3.15 copies torch tensors in a way that NumPy 2 deprecates
        warnings.filterwarnings("ignore", message="__array__ implementation")
        model.save(folder / "model.keras")
    return write_package(
        folder,
        {
            "name": name,
            "version": version,
            "task": "detection",
            "framework": "keras",
            "predictor": "slice-classifier",
            "weights": "model.keras",
            "architecture": {"name": "tiny", "classes": ["no_tumour", "tumour"]},
            "preprocessing": {"size": 32},
            "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, -1, -1]}],
            "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}],
        },
    )
