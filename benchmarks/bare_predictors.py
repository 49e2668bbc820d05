"""The predictors alone, for pipeline_overhead: reads files, predicts, writes the seconds; once per line of input."""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from serving.predictors.base import Predictor
from serving.predictors.package import load_package
from serving.predictors.registry import load
from shared.config import Settings
from shared.imaging.modality import modality_from_filename
from shared.imaging.nifti import Limits, read_nifti
from shared.imaging.slices import display_slice, representative_slices

CANDIDATES = 5


def main() -> None:
    """Serve standard input."""
    settings = Settings()
    torch.set_num_threads(settings.threads)
    names = ("brain-tumor-detection", "brain-tumor-classification", "brain-tumor-segmentation")
    predictors = [load(load_package(settings.catalogue_dir / name)) for name in names]
    files = {modality_from_filename(path): Path(path) for path in sys.argv[1:]}
    for _ in sys.stdin:
        started = time.perf_counter()
        predict(predictors, files)
        print(time.perf_counter() - started, flush=True)


def predict(predictors: list[Predictor], files: dict[str | None, Path]) -> None:
    """What the pipeline asks of the models, on the same slices, without anything between."""
    detection, classification, segmentation = predictors
    volumes = {name: read_nifti(path, Limits()) for name, path in files.items() if name}
    flair = volumes["flair"]
    indices = representative_slices(flair, CANDIDATES)
    detection.predict({"image": np.stack([display_slice(flair, index) for index in indices])})
    classification.predict({"image": display_slice(volumes["t1ce"], indices[0])[None]})
    segmentation.predict(dict(volumes))


if __name__ == "__main__":
    main()
