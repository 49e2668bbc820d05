"""Dice of the segmentation model at native resolution, per case and region."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.predictors.base import Predictor
from serving.predictors.package import ModelManifest, load_package
from serving.predictors.registry import load
from serving.training.common import Row
from serving.training.segmentation_data import MODALITIES, find_cases, modality_file, read_volume, regions_of
from serving.training.segmentation_data import standard_labels as standard
from shared.imaging.volume import Volume

REGION_NAMES = ("WT", "TC", "ET")
MODEL = "brain-tumor-segmentation"


@dataclass(frozen=True)
class CaseResult:
    """One case: Dice, volumes in ml (predicted, drawn by experts) of WT, TC, ET, and the seconds it took."""

    case: str
    split: str
    dice: tuple[float, float, float]
    predicted_ml: tuple[float, float, float]
    expert_ml: tuple[float, float, float]
    seconds: float


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Overlap of two masks, 0 to 1; two empty masks agree fully."""
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 2 * int(np.count_nonzero(first & second)) / total if total else 1.0


def split_of(case: str, manifest: ModelManifest) -> str:
    """`training` if the manifest names the case among its training data, else `held-out`."""
    return "training" if any(case in dataset.cases for dataset in manifest.training_data) else "held-out"


def evaluate_case(folder: Path, predictor: Predictor) -> CaseResult:
    """Run one case as a pipeline would, on the grid of its files."""
    volumes = {name: read_volume(modality_file(folder, name)) for name in MODALITIES}
    expert = regions_of(standard(read_volume(modality_file(folder, "seg")).data))
    started = time.perf_counter()
    result = predictor.predict(volumes)["label_map"]
    seconds = time.perf_counter() - started
    assert isinstance(result, Volume)
    found = regions_of(result.data.astype(np.uint8))
    scores = [dice(a, b) for a, b in zip(found, expert, strict=True)]
    ours, theirs = (
        [float(np.count_nonzero(mask)) * result.voxel_ml for mask in masks] for masks in (found, expert)
    )
    split = split_of(folder.name, predictor.package.manifest)
    return CaseResult(folder.name, split, _three(scores), _three(ours), _three(theirs), seconds)


def evaluate(data_dir: Path, package_dir: Path, *, include_training: bool = False) -> dict[str, CaseResult]:
    """Every case under `data_dir` that the model was not trained on (or every case), printed as it comes."""
    predictor = load(load_package(package_dir))
    results: dict[str, CaseResult] = {}
    for folder in find_cases(data_dir):
        if not include_training and split_of(folder.name, predictor.package.manifest) == "training":
            continue
        result = evaluate_case(folder, predictor)
        results[result.case] = result
        print(describe(result), flush=True)
    return results


def describe(result: CaseResult) -> str:
    """One line: Dice, then volumes as predicted/expert."""
    triples = zip(REGION_NAMES, result.dice, result.predicted_ml, result.expert_ml, strict=True)
    parts = [f"{name} {score:.3f} ({ours:.1f}/{theirs:.1f} ml)" for name, score, ours, theirs in triples]
    return f"{result.case} [{result.split}]  {'  '.join(parts)}  {result.seconds:.1f} s"


def rows(results: dict[str, CaseResult]) -> list[Row]:
    """Mean Dice per region over the cases of each split."""
    found: list[Row] = []
    for split in sorted({result.split for result in results.values()}):
        scores = np.array([result.dice for result in results.values() if result.split == split])
        found += [
            Row(MODEL, f"Dice {name}", split, round(float(mean), 4), len(scores))
            for name, mean in zip(REGION_NAMES, scores.mean(axis=0), strict=True)
        ]
    return found


def metrics(results: dict[str, CaseResult]) -> list[dict[str, Any]]:
    """The rows and every single case, as model.yaml lists them."""
    listed = [{"name": r.metric, "value": r.value, "split": r.split, "n": r.n} for r in rows(results)]
    for result in results.values():
        for name, score in zip(REGION_NAMES, result.dice, strict=True):
            split = f"{result.split}: {result.case}"
            listed.append({"name": f"Dice {name}", "value": round(score, 4), "split": split, "n": 1})
    return listed


def _three(values: list[float]) -> tuple[float, float, float]:
    first, second, third = values
    return first, second, third
