"""Every figure of the detection and classification cards, measured with the shipped files through the real predictors."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from serving.predictors.base import Predictor
from serving.predictors.package import load_package
from serving.predictors.registry import load
from serving.predictors.slices import rescale
from serving.training.common import Row
from serving.training.slices_augment import mirrored, without_skull
from serving.training.slices_data import (
    CLASSES,
    SEQUENCES,
    Slice,
    brain2d,
    brats,
    brats_cases,
    display_slices,
)

DETECTION, CLASSIFICATION = "brain-tumor-detection", "brain-tumor-classification"
LARGE_MM2 = 1000  # what a slice chosen for showing the tumour has; BraTS pixels are 1 mm²
NATIVE = "TCGA-FG-6692_native"
CENTRAL = (0.55, 0.7)  # share of the height of the head scan in which its tumour shows in every sequence
Float: TypeAlias = NDArray[np.float32]


def evaluate(data_dir: Path, catalogue_dir: Path) -> list[Row]:
    """The rows of both models; several minutes on one core."""
    return [
        *evaluate_detection(data_dir, load(load_package(catalogue_dir / DETECTION))),
        *evaluate_classification(data_dir, load(load_package(catalogue_dir / CLASSIFICATION))),
    ]


def evaluate_detection(data_dir: Path, predictor: Predictor) -> list[Row]:
    """Tumour or not: brain2d test patients with and without skull, held-out BraTS slices of each sequence."""
    pieces = brain2d(data_dir, "test")
    rows = _detection_rows(predictor, pieces, "brain2d test")
    rows += _detection_rows(predictor, _skull_removed(pieces), "brain2d test, skull removed")
    held_out = [piece for case in brats_cases(data_dir, "test") for piece in brats(data_dir, case)]
    for name in SEQUENCES:
        of_sequence = [piece for piece in held_out if piece.sequence == name]
        rows += _detection_rows(predictor, of_sequence, f"BraTS held-out {name.upper()}")
    rows += _detection_rows(predictor, held_out, "BraTS held-out, all sequences")
    rows += _detection_rows(
        predictor, list(_healthy_halves(held_out)), "BraTS held-out, healthy half mirrored"
    )
    return rows + _detection_rows(
        predictor, list(_native(data_dir)), "TCGA-LGG case with skull, central slices"
    )


def evaluate_classification(data_dir: Path, predictor: Predictor) -> list[Row]:
    """Which of four classes: brain2d test patients with and without skull, held-out BraTS T1CE slices (all glioma)."""
    pieces = brain2d(data_dir, "test")
    rows = _classification_rows(predictor, pieces, "brain2d test")
    rows += _classification_rows(predictor, _skull_removed(pieces), "brain2d test, skull removed")
    held_out = [
        piece
        for case in brats_cases(data_dir, "test")
        for piece in brats(data_dir, case)
        if piece.sequence == "t1ce" and piece.tumour
    ]
    rows += _classification_rows(predictor, held_out, "BraTS held-out T1CE")
    large = [piece for piece in held_out if piece.lesion is not None and piece.lesion.sum() >= LARGE_MM2]
    return rows + _classification_rows(
        predictor, large, f"BraTS held-out T1CE, tumour of {LARGE_MM2} mm² or more"
    )


def probabilities(predictor: Predictor, pieces: Sequence[Slice]) -> Float:
    """(N, classes); slices of different sizes go one by one, as in a picture upload."""
    found = [predictor.predict({"image": piece.image[None]})["probabilities"] for piece in pieces]
    return np.concatenate([np.asarray(part, dtype=np.float32) for part in found])


def roc_auc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney), ties counted half."""
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def _detection_rows(predictor: Predictor, pieces: Sequence[Slice], split: str) -> list[Row]:
    if not pieces:
        return []
    scores = probabilities(predictor, pieces)[:, 1]
    tumour = np.array([piece.tumour for piece in pieces])
    said = scores >= 0.5
    rows = [Row(DETECTION, "accuracy", split, float((said == tumour).mean()), len(pieces))]
    for name, wanted in (("tumour", True), ("no_tumour", False)):
        mine = tumour == wanted
        if mine.any() and not mine.all():
            rows.append(
                Row(DETECTION, f"recall {name}", split, float((said == wanted)[mine].mean()), int(mine.sum()))
            )
    if tumour.any() and not tumour.all():
        rows.append(Row(DETECTION, "ROC AUC", split, roc_auc(scores, tumour), len(pieces)))
    return _rounded(rows)


def _classification_rows(predictor: Predictor, pieces: Sequence[Slice], split: str) -> list[Row]:
    said = probabilities(predictor, pieces).argmax(axis=1)
    wanted = np.array([CLASSES.index(piece.label) for piece in pieces])
    right = said == wanted
    rows = [Row(CLASSIFICATION, "accuracy", split, float(right.mean()), len(pieces))]
    for number, name in enumerate(CLASSES):
        mine = wanted == number
        if mine.any() and not mine.all():
            rows.append(
                Row(CLASSIFICATION, f"recall {name}", split, float(right[mine].mean()), int(mine.sum()))
            )
    return _rounded(rows)


def _rounded(rows: list[Row]) -> list[Row]:
    return [Row(row.model, row.metric, row.split, round(row.value, 4), row.n) for row in rows]


def _skull_removed(pieces: Sequence[Slice]) -> list[Slice]:
    """The same pictures roughly skull-stripped (seeded), as far as that leaves the tumour in."""
    rng = np.random.default_rng(1)
    return [
        Slice(without_skull(rescale(piece.image), piece.lesion, rng), piece.label, piece.group, piece.origin)
        for piece in pieces
    ]


def _healthy_halves(pieces: Sequence[Slice]) -> Iterator[Slice]:
    """Normal brains made of the healthy half of one-sided tumour slices: extra negatives, for lack of real ones."""
    rng = np.random.default_rng(2)
    for piece in pieces:
        if piece.tumour and piece.lesion is not None:
            image = mirrored(rescale(piece.image), piece.lesion, False, rng)
            if image is not None:
                yield Slice(image, "notumor", piece.group, piece.origin, piece.sequence)


def _native(data_dir: Path) -> Iterator[Slice]:
    """Central slices, all four sequences, of a raw clinical glioma study with the skull on. It has no mask."""
    for name in SEQUENCES:
        slices, _ = display_slices(data_dir / "brain3d" / NATIVE / f"TCGA-FG-6692_{name}.nii.gz")
        first, last = (round(share * len(slices)) for share in CENTRAL)
        for image in slices[first:last]:
            yield Slice(image, "glioma", NATIVE, "brats", name)
