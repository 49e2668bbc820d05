"""OCT: pictures, DICOM, several eyes, and scales that cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import UID

from shared.db.models import FileRole
from shared.imaging.oct.stored import read_bscans
from shared.runtime import Services
from tests.intake import Intake, of_role
from tests.unit.functions.ingest.series import PATIENT, packed
from tests.unit.shared.imaging.dicom.builders import dataset, make_image, save

OPT = "1.2.840.10008.5.1.4.1.1.77.1.5.4"


def opt(path: Path, frames: int = 4, between: float = 0.24, axial: float = 0.0039, **tags: Any) -> Path:
    """A DICOM OCT volume of 8-bit B-scans."""
    pixels = np.arange(frames * 32 * 48, dtype=np.uint8).reshape(frames, 32, 48)
    image = make_image(
        **{
            **PATIENT,
            "SOPClassUID": UID(OPT),
            "Modality": "OPT",
            "ImageLaterality": "R",
            "ImagePositionPatient": None,
            "ImageOrientationPatient": None,
            "PixelSpacing": None,
            "RescaleSlope": None,
            "RescaleIntercept": None,
            "NumberOfFrames": frames,
            "Rows": 32,
            "Columns": 48,
            "BitsAllocated": 8,
            "BitsStored": 8,
            "HighBit": 7,
            "PixelRepresentation": 0,
            "PixelData": pixels.tobytes(),
            **tags,
        }
    )
    shared = dataset(
        PixelMeasuresSequence=[dataset(PixelSpacing=[axial, 0.0115], SliceThickness=between)],
        PlaneOrientationSequence=[dataset(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
    )
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [
        dataset(PlanePositionSequence=[dataset(ImagePositionPatient=[0, 0, between * n])])
        for n in range(frames)
    ]
    return save(image, path)


def picture(path: Path, mode: str = "L") -> Path:
    grey = np.random.default_rng(1).integers(0, 255, (60, 80), np.uint8)
    image = Image.fromarray(grey).convert(mode)
    exif = Image.Exif()
    exif[0x010E] = "Quibbleworth Zacharias"
    image.save(path, exif=exif)
    return path


@pytest.mark.parametrize("name", ["scan.png", "scan.jpg", "scan.tif"])
def test_a_picture_is_taken_for_a_b_scan_and_says_so(
    intake: Intake, services: Services, tmp_path: Path, name: str
) -> None:
    study = intake.taken(picture(tmp_path / name))
    assert (study.status, study.kind) == ("ingested", "oct")
    assert study.details["warnings"] == [
        "a picture does not say what it shows: it was taken for a B-scan of OCT"
    ]
    [bscans] = study.files
    assert (bscans.role, bscans.media_type) == ("bscans", "image/png")
    assert (bscans.details["spacing_mm"], bscans.details["scans"]) == (None, 1)
    assert "nothing can be measured" in bscans.details["spacing_note"]
    assert b"Quibbleworth" not in services.storage.read("studies", bscans.key)


def test_a_picture_that_is_declared_as_oct_needs_no_warning(intake: Intake, tmp_path: Path) -> None:
    study = intake.taken(picture(tmp_path / "scan.png"), kind="oct")
    assert "warnings" not in study.details


def test_a_dicom_volume_keeps_its_eye_scale_and_pixels(
    intake: Intake, services: Services, tmp_path: Path
) -> None:
    study = intake.taken(opt(tmp_path / "scan.dcm"))
    assert (study.status, study.kind, study.patient_id_source) == ("ingested", "oct", "dicom"), study.message
    [bscans] = of_role(study, FileRole.BSCANS)
    assert bscans.details["laterality"] == "R"
    assert bscans.details["spacing_mm"] == {"axial": 0.0039, "lateral": 0.0115, "between": 0.24}
    path = tmp_path / "stored"
    path.write_bytes(services.storage.read("studies", bscans.key))
    stored = read_bscans(path)
    expected = np.arange(4 * 32 * 48, dtype=np.uint8).reshape(4, 32, 48)
    assert np.array_equal(stored.bscans, expected)
    assert stored.laterality == "R" and stored.spacing_mm is not None
    assert [(one.modality, len(one.instances)) for one in intake.series(study.id)] == [("OPT", 1)]


def test_an_implausible_scale_is_kept_as_none_with_its_reason(intake: Intake, tmp_path: Path) -> None:
    study = intake.taken(opt(tmp_path / "scan.dcm", axial=0.9))
    [bscans] = of_role(study, FileRole.BSCANS)
    assert bscans.details["spacing_mm"] is None
    assert "900 µm; 0.8 to 20 are plausible" in bscans.details["spacing_note"]


def test_both_eyes_are_two_files(intake: Intake, tmp_path: Path) -> None:
    (tmp_path / "eyes").mkdir()
    opt(tmp_path / "eyes" / "r.dcm")
    opt(tmp_path / "eyes" / "l.dcm", ImageLaterality="L", SeriesInstanceUID="1.2.3.4.8")
    study = intake.taken(packed(tmp_path / "eyes", tmp_path / "eyes.tar.gz"))
    assert {file.details["laterality"] for file in of_role(study, FileRole.BSCANS)} == {"R", "L"}
    assert intake.objects(study.id)[:2] == ["bscans/1.nii.gz", "bscans/2.nii.gz"]


def test_a_photograph_of_the_fundus_goes_with_the_scan_and_is_none_by_itself(
    intake: Intake, tmp_path: Path
) -> None:
    (tmp_path / "both").mkdir()
    colour: dict[str, Any] = {
        "SOPClassUID": UID("1.2.840.10008.5.1.4.1.1.77.1.5.1"),
        "Modality": "OP",
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 0,
        "PhotometricInterpretation": "RGB",
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "Rows": 20,
        "Columns": 30,
        "PixelData": bytes(range(200)) * 9,
        "SeriesInstanceUID": "1.2.3.4.77",
    }
    save(make_image(**PATIENT, **colour), tmp_path / "both" / "fundus.dcm")
    alone = intake.taken(tmp_path / "both" / "fundus.dcm")
    assert alone.message == "the study holds pictures of the fundus only; send the OCT scan itself"
    opt(tmp_path / "both" / "scan.dcm")
    study = intake.taken(packed(tmp_path / "both", tmp_path / "both.tar.gz"))
    assert [(f.details["height"], f.details["width"]) for f in of_role(study, FileRole.FUNDUS)] == [(20, 30)]
