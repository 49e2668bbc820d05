"""Studies as scanners give them: the skull is cut away and the reader is told, or the mask is left out."""

from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

from shared.imaging.modality import MODALITIES
from shared.oip.server_process import ModelServerProcess
from tests.conftest import open_folder
from tests.integration.installation import Installation


@pytest.fixture(scope="module")
def running(model_server: ModelServerProcess, objects_dir: Path) -> Iterator[Installation]:
    environment = {"HOUNSFIELD_STORAGE_URL": objects_dir.as_uri()}
    with (
        open_folder() as folder,
        Installation(folder / "data", model_server.url, **environment) as installation,
    ):
        installation.start()
        installation.login()
        yield installation


def findings(study: dict) -> dict[str, dict]:
    return {found["name"]: found for found in study["results"]["findings"]}


def test_a_raw_clinical_study_is_segmented_within_its_brain_and_the_reader_is_told(
    running: Installation, hounsfield_data: Path
) -> None:
    folder = hounsfield_data / "brain3d" / "TCGA-FG-6692_native"
    files = [folder / f"TCGA-FG-6692_{name}.nii.gz" for name in MODALITIES]
    study = running.wait(running.submit(files)["id"])
    assert [text for text in study["results"]["warnings"] if text.startswith("The skull was on")]
    assert 20 < findings(study)["volume-wt"]["number"] < 100


def test_where_segmentation_refuses_the_other_results_are_reported_with_the_reason(
    running: Installation, tmp_path: Path
) -> None:
    """Noise from edge to edge: no skull-stripped image, and no brain in it."""
    files = []
    for seed, name in enumerate(MODALITIES):
        noise = np.random.default_rng(seed).integers(1, 500, (60, 60, 40)).astype(np.int16)
        files.append(tmp_path / f"noise_{name}.nii.gz")
        nibabel.Nifti1Image(noise, np.diag([3.0, 3.0, 4.0, 1.0])).to_filename(files[-1])
    study = running.wait(running.submit(files)["id"])
    assert study["status"] == "completed"
    [segment] = [step for step in study["results"]["steps"] if step["name"] == "segment"]
    assert segment["status"] == "skipped"
    assert "not skull-stripped and no brain was found in T1" in segment["reason"]
    assert findings(study)["tumour"]["value"] in ("yes", "no")
    assert not [name for name in findings(study) if name.startswith("volume")]
    assert running.http.get(f"studies/{study['id']}/artifacts/slice").status_code == 200
