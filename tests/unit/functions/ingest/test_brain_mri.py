"""Brain MRI: sequences from NIfTI and DICOM, the best of each, and what is passed over."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.runtime import Services
from shared.security.sealing import BrokenSeal, name_ring
from tests.builders import nifti_file, nifti_header
from tests.intake import Intake, Sent
from tests.unit.functions.ingest.series import mr_series, packed

SHAPE = (40, 40, 40)
HEADER = nifti_header(SHAPE, srow=np.diag([4.0, 4.0, 4.0, 1.0])[:3])


def scan(path: Path, seed: int = 0) -> Path:
    """A head-sized volume."""
    voxels = np.random.default_rng(seed).integers(1, 900, SHAPE).astype("<i2")
    return nifti_file(path, HEADER, voxels.tobytes())


def test_four_volumes_are_told_by_their_names_and_kept_under_them(
    intake: Intake, services: Services, tmp_path: Path
) -> None:
    names = ("t1", "t1ce", "t2", "flair")
    files = [scan(tmp_path / f"Doe_Jane_{name}.nii.gz", n) for n, name in enumerate(names)]
    study = intake.taken(*files, kind="brain-mri")
    assert study.status == "ingested"
    assert study.details["modalities"] == sorted(names)
    assert study.details["kind_source"] == "declared"
    seal = services.once(name_ring)
    assert {file.modality: seal.filename(file) for file in study.files} == {
        name: f"Doe_Jane_{name}.nii.gz" for name in names
    }
    assert intake.objects(study.id) == sorted(f"volume/{name}.nii.gz" for name in names)
    assert {file.details["modality_source"] for file in study.files} == {"filename"}


def test_an_archive_of_a_study_may_hold_its_mask_too(intake: Intake, tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    for n, name in enumerate(("t1", "t1ce", "t2", "flair")):
        scan(tmp_path / "case" / f"case_{name}.nii.gz", n)
    nifti_file(tmp_path / "case" / "case_seg.nii.gz", HEADER, bytes(2 * 40**3 - 2) + b"\4\0")
    study = intake.taken(packed(tmp_path / "case", tmp_path / "case.tar.gz"))
    assert (study.status, study.kind) == ("ingested", "brain-mri")
    assert study.details["passed_over"] == {"volume that does not tell its sequence": 1}


def test_dicom_series_are_told_by_their_descriptions(intake: Intake, tmp_path: Path) -> None:
    mr_series(tmp_path / "mr" / "a", "AX T1", SeriesNumber=1)
    mr_series(tmp_path / "mr" / "b", "AX T2 FLAIR", SeriesNumber=2)
    mr_series(tmp_path / "mr" / "c", "DWI b1000", SeriesNumber=3)
    study = intake.taken(packed(tmp_path / "mr", tmp_path / "mr.tar.gz"))
    assert (study.status, study.kind) == ("ingested", "brain-mri")
    assert {file.modality: file.details["modality_source"] for file in study.files} == {
        "t1": "description",
        "flair": "description",
    }
    assert [(one.number, one.chosen) for one in intake.series(study.id)] == [
        (1, True),
        (2, True),
        (3, False),
    ]


def test_nifti_and_dicom_may_be_mixed_and_the_surer_of_two_is_taken(intake: Intake, tmp_path: Path) -> None:
    mr_series(tmp_path / "mr" / "a", "AX T1", SeriesNumber=1)
    archive = packed(tmp_path / "mr", tmp_path / "mr.tar.gz")
    study = intake.taken(
        archive, scan(tmp_path / "a_flair.nii.gz"), scan(tmp_path / "b_t1.nii.gz", 2), kind="brain-mri"
    )
    assert study.status == "ingested", study.message
    told = {file.modality: file.details.get("modality_source") for file in study.files}
    assert told == {"t1": "filename", "flair": "filename"}  # a name is surer than a description
    assert study.details["warnings"] == ["series 1 (T1) is another T1 and was passed over; file 3 is used"]


def test_two_files_of_one_sequence_are_refused_where_only_files_were_sent(
    intake: Intake, tmp_path: Path
) -> None:
    study = intake.taken(scan(tmp_path / "a_t1.nii.gz"), scan(tmp_path / "b_t1.nii.gz", 1), kind="brain-mri")
    assert str(study.message).startswith("Several files are called T1")


def test_a_picture_among_the_volumes_is_refused_by_what_it_is(intake: Intake, tmp_path: Path) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "flair.png")
    study = intake.taken(scan(tmp_path / "a_t1.nii.gz"), tmp_path / "flair.png", kind="brain-mri")
    assert study.message == (
        "the study was sent as a brain MRI, but holds files of the format png; send each by itself"
    )


def test_a_name_is_sealed_for_its_own_row(intake: Intake, services: Services, tmp_path: Path) -> None:
    study = intake.taken(scan(tmp_path / "a_t1.nii.gz"), kind="brain-mri")
    [file] = study.files
    names = services.once(name_ring)
    assert names.filename(file) == "a_t1.nii.gz"
    with pytest.raises(BrokenSeal):
        names.open(file.filename_sealed or b"", study.id)


def test_what_is_gzipped_is_unpacked_whatever_it_is(intake: Intake, tmp_path: Path) -> None:
    folder = mr_series(tmp_path / "a", "AX T1")
    zipped = shutil.make_archive(str(tmp_path / "study"), "zip", folder)
    (tmp_path / "study.zip.gz").write_bytes(gzip.compress(Path(zipped).read_bytes(), 1))
    study = intake.taken(Sent(tmp_path / "study.zip.gz", "x"))
    assert (study.status, study.kind) == ("ingested", "brain-mri"), study.message


def test_a_note_beside_the_volumes_is_passed_over_with_a_warning(intake: Intake, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("The patient was well.\n" * 40)
    study = intake.taken(scan(tmp_path / "a_t1.nii.gz"), tmp_path / "notes.txt", kind="brain-mri")
    assert study.status == "ingested", study.message
    assert study.details["warnings"][0].startswith("file 2: The file is a text file that is no image")
