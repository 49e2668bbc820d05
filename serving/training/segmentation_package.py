"""Writes the model package: model.yaml, and the card with the measured figures filled in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from serving.predictors.package import sha256_of
from serving.training.evaluate_segmentation import MODEL, CaseResult, metrics, rows

CARD_TEMPLATE = Path(__file__).with_name("segmentation_card.md")
WEIGHTS = "model.safetensors"
MODALITY_INPUTS = {
    "t1": "T1-weighted",
    "t1ce": "T1-weighted with contrast agent",
    "t2": "T2-weighted",
    "flair": "T2 FLAIR",
}
LABELS = [
    {"value": 0, "name": "background", "display": "Background"},
    {
        "value": 1,
        "name": "NCR",
        "display": "Necrotic and non-enhancing tumour core",
        "snomed": {"code": "6574001", "display": "Necrosis"},
    },
    {
        "value": 2,
        "name": "ED",
        "display": "Peritumoural oedema and infiltrated tissue",
        "snomed": {"code": "79654002", "display": "Edema"},
    },
    {"value": 3, "name": "ET", "display": "Enhancing tumour"},
]
REGIONS = [
    {"name": "WT", "display": "Whole tumour", "labels": [1, 2, 3]},
    {"name": "TC", "display": "Tumour core", "labels": [1, 3]},
    {"name": "ET", "display": "Enhancing tumour", "labels": [3]},
]
BRAIN_EXTRACTED = {
    "name": "brain_extracted",
    "datatype": "UINT8",
    "shape": [1],
    "description": "1 where the skull was on and the brain was cut out (deepbet) before segmentation, else 0",
}
INTENDED_USE = "Research and teaching on co-registered MRI of adult glioma, at best skull-stripped. Not for clinical use."
PREPROCESSING = {"spacing_mm": 1.5}
INFERENCE = {
    "window": [96, 128, 96],
    "overlap": 0.25,
    "mirror_axes": [0],
    "thresholds": [0.5, 0.5, 0.5],
    "min_component_mm3": 500.0,
    "min_enhancing_mm3": 100.0,
}


def write_manifest(
    folder: Path,
    version: str,
    architecture: dict[str, Any],
    trained_on: Sequence[str],
    figures: list[dict[str, Any]],
) -> None:
    """Write model.yaml for the weights and every other file that lies in `folder`."""
    manifest = {
        "name": MODEL,
        "version": version,
        "task": "segmentation",
        "framework": "torch",
        "predictor": "multi-modal-segmentation",
        "weights": WEIGHTS,
        "architecture": architecture,
        "preprocessing": PREPROCESSING,
        "inference": INFERENCE,
        "inputs": [_volume(name, description) for name, description in MODALITY_INPUTS.items()],
        "outputs": [_volume("label_map", "uint8 labels on the grid of the inputs"), BRAIN_EXTRACTED],
        "labels": LABELS,
        "regions": REGIONS,
        "licence": "CC-BY-4.0",
        "training_data": [_training_data(trained_on)],
        "metrics": figures,
        "intended_use": INTENDED_USE,
        "files": {
            path.name: sha256_of(path)
            for path in sorted(folder.iterdir())
            if path.is_file() and path.name != "model.yaml"
        },
    }
    (folder / "model.yaml").write_text(
        yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=110)
    )


def write_package(
    folder: Path,
    version: str,
    architecture: dict[str, Any],
    trained_on: Sequence[str],
    results: dict[str, CaseResult],
) -> None:
    """Write the card, then model.yaml, from what was measured."""
    card = CARD_TEMPLATE.read_text().replace("{figures}", figures_table(results))
    card = card.replace("{trained_on}", ", ".join(trained_on))
    (folder / "README.md").write_text(card)
    write_manifest(folder, version, architecture, trained_on, metrics(results))


def figures_table(results: dict[str, CaseResult]) -> str:
    """Markdown: one line per case and the mean."""
    lines = [
        "| case | Dice WT | Dice TC | Dice ET | WT ml (expert) | TC ml (expert) | ET ml (expert) |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results.values():
        scores = " | ".join(f"{score:.3f}" for score in result.dice)
        pairs = zip(result.predicted_ml, result.expert_ml, strict=True)
        volumes = " | ".join(f"{ours:.1f} ({theirs:.1f})" for ours, theirs in pairs)
        lines.append(f"| {result.case} ({result.split}) | {scores} | {volumes} |")
    means = " | ".join(f"**{row.value:.3f}**" for row in rows(results) if row.split == "held-out")
    lines.append(f"| mean, held-out | {means} | | | |")
    return "\n".join(lines)


def _volume(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": "BYTES",
        "shape": [1],
        "content": "volume",
        "description": description,
    }


def _training_data(trained_on: Sequence[str]) -> dict[str, str]:
    return {
        "name": "BraTS 2021 (RSNA-ASNR-MICCAI)",
        "licence": "CC BY 4.0 by TCIA's statement, not re-confirmed",
        "source": "https://doi.org/10.7937/jc8x-9874",
        "cases": ", ".join(trained_on),
    }
