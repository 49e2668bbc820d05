"""Model packages: a folder with `model.yaml`, weights and a card, checked before anything is loaded."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import Invalid


class InvalidPackage(Invalid):
    """The model package is incomplete, altered, or describes something this platform does not load."""

    slug, title = "invalid-model-package", "Invalid model package"


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Code(_Closed):
    """A SNOMED CT concept."""

    code: str
    display: str


class Label(_Closed):
    """One value of a label map, or one class of a classifier (then `value` is the output's column)."""

    value: int
    name: str
    display: str
    snomed: Code | None = None


class Region(_Closed):
    """A union of labels that is reported as one structure (BraTS: WT, TC, ET)."""

    name: str
    display: str
    labels: list[int]


class TensorSpec(_Closed):
    """One named input or output, in the words of the Open Inference Protocol v2."""

    name: str
    datatype: Literal["FP32", "UINT8", "BYTES"]
    shape: list[int] = Field(description="-1 where any size is taken; [1] for a claim-checked volume")
    content: Literal["tensor", "volume"] = "tensor"
    description: str = ""


class Metric(_Closed):
    """One measured figure: what, on which split, how many cases."""

    name: str
    value: float
    split: str
    n: int


class Dataset(_Closed):
    """Where training data came from."""

    name: str
    licence: str
    source: str
    cases: str


class ModelManifest(_Closed):
    """`model.yaml`, whole."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,31}$")
    task: Literal["detection", "classification", "segmentation"]
    framework: Literal["torch", "keras"]
    predictor: str = Field(description="name under which the predictor class is registered")
    weights: str = Field(description="weights file inside the package")
    architecture: dict[str, Any] = Field(
        default_factory=dict, description="named architecture and its arguments"
    )
    preprocessing: dict[str, Any] = Field(
        default_factory=dict, description="what the predictor does to its input"
    )
    inference: dict[str, Any] = Field(default_factory=dict, description="windowing, mirroring, thresholds")
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    labels: list[Label] = []
    regions: list[Region] = []
    licence: str
    training_data: list[Dataset]
    metrics: list[Metric] = []
    intended_use: str
    files: dict[str, str] = Field(description="file name → sha256 of every file but model.yaml")


@dataclass(frozen=True)
class ModelPackage:
    """A package whose manifest is valid and whose files are the ones the manifest names."""

    folder: Path
    manifest: ModelManifest

    @property
    def weights(self) -> Path:
        """Path of the weights file."""
        return self.folder / self.manifest.weights


def load_package(folder: Path) -> ModelPackage:
    """Read and check a package folder. Raises InvalidPackage naming what is wrong."""
    try:
        raw = yaml.safe_load((folder / "model.yaml").read_text())
        manifest = ModelManifest.model_validate(raw)
    except FileNotFoundError as error:
        raise InvalidPackage(f"{folder.name}: no model.yaml") from error
    except (yaml.YAMLError, ValidationError) as error:
        raise InvalidPackage(f"{folder.name}: model.yaml is not valid: {error}") from error
    if manifest.weights not in manifest.files:
        raise InvalidPackage(f"{manifest.name}: files does not list the weights file {manifest.weights!r}")
    for name, expected in manifest.files.items():
        _check_file(folder, name, expected)
    return ModelPackage(folder, manifest)


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(folder: Path, name: str, expected: str) -> None:
    path = folder / name
    if path.resolve().parent != folder.resolve() or path.is_symlink() or not path.is_file():
        raise InvalidPackage(f"{folder.name}: {name!r} is not a plain file inside the package")
    if sha256_of(path) != expected:
        raise InvalidPackage(f"{folder.name}: {name!r} does not have the sha256 that model.yaml states")
