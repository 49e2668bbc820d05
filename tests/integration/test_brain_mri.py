"""A brain MRI from upload to report, through the public API of a real installation with the real models."""

import gzip
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pypdf import PdfReader

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


@pytest.fixture(scope="module")
def study(running: Installation, brain_files: list[Path]) -> dict:
    sent = running.submit(brain_files, patientName="Ada Example")
    return running.wait(sent["id"])


def finding(study: dict, name: str) -> dict:
    return next(found for found in study["results"]["findings"] if found["name"] == name)


def artifact(running: Installation, study: dict, role: str) -> bytes:
    response = running.http.get(f"studies/{study['id']}/artifacts/{role}")
    assert response.status_code == 200, response.text
    return response.content


def test_all_steps_are_done_and_every_finding_names_its_model(study: dict) -> None:
    assert (study["status"], study["progress"]) == ("completed", 100)
    assert {step["name"] for step in study["results"]["steps"]} >= {"detect", "segment", "measure"}
    assert finding(study, "tumour")["probability"] is not None
    for name in ("volume-wt", "volume-tc", "volume-et"):
        assert finding(study, name)["unit"] == "mL"
    assert all(found["model"] and found["model_version"] for found in study["results"]["findings"])


def test_the_scan_has_the_fields_that_the_older_system_documented(study: dict) -> None:
    assert study["patientId"] == study["patient_id"]
    assert study["patientName"] == "Ada Example"
    assert study["pipelineStep"] == study["step"]
    assert {"scanDate", "createdAt", "userId", "modalities", "results", "progress", "status"} <= set(study)
    assert study["modalities"] == ["flair", "t1", "t1ce", "t2"]


def test_the_mask_lies_on_the_grid_of_its_input_and_agrees_with_the_volume(
    running: Installation, study: dict, brain_files: list[Path]
) -> None:
    mask = nibabel.Nifti1Image.from_bytes(gzip.decompress(artifact(running, study, "mask")))
    source = nibabel.load(brain_files[0])
    assert mask.shape == source.shape
    np.testing.assert_allclose(mask.affine, source.affine, atol=1e-4)
    labels = np.asarray(mask.dataobj)
    assert set(np.unique(labels)) <= {0, 1, 2, 3}
    millilitres = np.count_nonzero(labels) * abs(np.linalg.det(mask.affine[:3, :3])) / 1000
    assert finding(study, "volume-wt")["number"] == pytest.approx(millilitres, abs=0.01)


def test_overlays_are_pictures_and_the_report_is_one_page_with_the_findings(
    running: Installation, study: dict
) -> None:
    for role in ("overlay", "overlay-montage"):
        picture = Image.open(BytesIO(artifact(running, study, role)))
        assert picture.format == "PNG"
        assert np.asarray(picture).std() > 10
    response = running.http.get(f"reports/{study['results']['report_id']}/pdf")
    assert response.headers["content-type"] == "application/pdf"
    pages = PdfReader(BytesIO(response.content)).pages
    assert len(pages) == 1
    text = pages[0].extract_text()
    assert f"{finding(study, 'volume-wt')['number']:.1f}" in text
    assert "not for clinical use" in text.lower()
    assert "Ada" not in text


def test_the_patients_name_is_in_no_log_event_or_object_key(
    running: Installation, study: dict, objects_dir: Path
) -> None:
    assert "Ada Example" not in running.log()
    keys = [str(path.relative_to(objects_dir)) for path in objects_dir.rglob("*")]
    assert not [key for key in keys if "example" in key.lower()]  # "ada" is in every so many hashes
    report = running.http.get(f"reports/{study['results']['report_id']}").text
    assert "Ada Example" not in report


def test_the_same_files_again_are_the_same_study_unless_asked_otherwise(
    running: Installation, study: dict, brain_files: list[Path]
) -> None:
    again = running.submit(list(reversed(brain_files)))
    assert (again["id"], again["known"]) == (study["id"], True)
    other = running.submit(brain_files, duplicate="true")
    assert other["id"] != study["id"]
    assert json.dumps(running.wait(other["id"])["results"]["warnings"])


def test_one_sequence_narrows_the_pipeline_and_the_result_says_so(
    running: Installation, brain_files: list[Path]
) -> None:
    flair = next(path for path in brain_files if "flair" in path.name)
    study = running.wait(running.submit([flair])["id"])
    steps = {step["name"]: step for step in study["results"]["steps"]}
    assert steps["segment"]["status"] == "skipped"
    assert steps["segment"]["reason"] == "needs T1, T1CE, T2, FLAIR"
    assert finding(study, "tumour")["value"] in ("yes", "no")
    assert not [found for found in study["results"]["findings"] if found["name"].startswith("volume")]
    assert Image.open(BytesIO(artifact(running, study, "slice"))).format == "PNG"


def test_a_real_case_is_detected_and_segmented(running: Installation, hounsfield_data: Path) -> None:
    case = hounsfield_data / "brain3d" / "BraTS2021_01657"
    files = [case / f"{case.name}_{name}.nii.gz" for name in ("t1", "t1ce", "t2", "flair")]
    study = running.wait(running.submit(files)["id"])
    assert finding(study, "tumour")["value"] == "yes"
    mask = np.asarray(
        nibabel.Nifti1Image.from_bytes(gzip.decompress(artifact(running, study, "mask"))).dataobj
    )
    truth = np.asarray(nibabel.load(case / f"{case.name}_seg.nii.gz").dataobj)
    dice = 2 * np.count_nonzero((mask > 0) & (truth > 0)) / (np.count_nonzero(mask) + np.count_nonzero(truth))
    assert dice >= 0.6
