"""The shipped segmentation model, measured on real cases that it was not trained on."""

from pathlib import Path

import numpy as np
import pytest

from serving.predictors.base import Predictor
from serving.predictors.package import load_package
from serving.predictors.registry import load
from serving.training.evaluate import CATALOGUE
from serving.training.evaluate_segmentation import MODEL, evaluate_case
from serving.training.segmentation_data import HELD_OUT


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return load(load_package(CATALOGUE / MODEL))


def test_the_shipped_model_finds_the_tumour_of_cases_it_never_saw(
    hounsfield_data: Path, predictor: Predictor
) -> None:
    results = [evaluate_case(hounsfield_data / "brain3d" / name, predictor) for name in HELD_OUT]
    assert all(result.split == "held-out" for result in results)
    assert np.mean([result.dice[0] for result in results]) >= 0.70


def test_the_figures_of_the_manifest_are_those_of_the_card(predictor: Predictor) -> None:
    card = (CATALOGUE / MODEL / "README.md").read_text()
    stated = [metric for metric in predictor.package.manifest.metrics if metric.n == 1]
    assert len(stated) == 3 * len(HELD_OUT)
    assert all(f"{metric.value:.3f}" in card for metric in stated)
