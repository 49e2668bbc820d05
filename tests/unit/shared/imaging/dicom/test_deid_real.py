"""Real files through de-identification: read, cleaned, written, read back; and nothing of the original is left."""

import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from shared.imaging.dicom.deid_text import vocabulary
from shared.imaging.dicom.deidentify import CannotDeidentify
from tests.unit.shared.imaging.dicom.deid_images import PSEUDONYM, deidentifier, read_back, written

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of files that are not quite right

IDENTIFYING = (
    *("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "InstitutionName", "StationName"),
    *(
        "ReferringPhysicianName",
        "OperatorsName",
        "PerformingPhysicianName",
        "DeviceSerialNumber",
        "StudyDate",
    ),
    *("InstitutionAddress", "OtherPatientIDs", "StudyID", "ContentDate", "RequestingPhysician"),
    *(
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "FrameOfReferenceUID",
        "ReferencedSOPInstanceUID",
    ),
)


def real_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted((folder / "dicom_odd").rglob("*")):
        if path.is_file() and path.suffix != ".md" and "dicom_4d" not in path.parts:
            yield path.name, path.read_bytes()
    for archive in sorted((folder / "ct").rglob("*.tar.gz")):
        with tarfile.open(archive) as tar:
            members = [member for member in tar if member.isfile()]
            for member in [*members[:3], *members[len(members) // 2 :: 40]]:
                file = tar.extractfile(member)
                assert file is not None
                yield member.name, file.read()


def identifiers(dataset: Dataset) -> set[str]:
    """Values that must not be found again: long enough to be no accident, and not what the standard defines."""
    found: set[str] = set()
    for element in dataset.iterall():
        if element.keyword in IDENTIFYING or element.VR == "PN":
            values = element.value if element.VM > 1 else [element.value]
            for value in values:
                parts = (
                    str(value or "").replace("=", "^").split("^")
                    if element.VR == "PN"
                    else [str(value or "")]
                )
                found.update(part.strip() for part in parts)
    return {
        value
        for value in found
        if len(value) > 4 and value.casefold() not in vocabulary() and not value.startswith("1.2.840.10008.")
    }


def pixels(dataset: FileDataset) -> bytes | None:
    return next((dataset[name].value for name in ("PixelData", "FloatPixelData") if name in dataset), None)


def without_pixels(dataset: FileDataset) -> bytes:
    for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if name in dataset:
            del dataset[name]
    if dataset.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1")
    return written(dataset)


def test_every_real_file_is_cleaned_or_refused(hounsfield_data: Path) -> None:
    became: dict[str, list[str]] = {"cleaned": [], "refused": []}
    for name, raw in real_files(hounsfield_data):
        try:
            original = dcmread(BytesIO(raw))
            result = deidentifier().clean(original, PSEUDONYM)
        except CannotDeidentify:
            became["refused"].append(name)
            continue
        became["cleaned"].append(name)
        file = written(result.dataset)
        back = read_back(file)
        assert pixels(back) == pixels(original), name
        for keyword in (
            "Rows",
            "PixelSpacing",
            "ImagePositionPatient",
            "RescaleSlope",
            "Modality",
            "SOPClassUID",
        ):
            assert back.get(keyword) == original.get(keyword), (name, keyword)
        assert back.PatientID == PSEUDONYM
        assert not any(element.tag.is_private for element in back.iterall()), name
        again = deidentifier().clean(read_back(file), PSEUDONYM)
        assert written(again.dataset) == file, name
        clean = without_pixels(back).decode("latin-1")
        left = {value for value in identifiers(original) if value in clean}
        assert not left, (name, left)
    assert len(became["cleaned"]) > 50
    assert {"sr_document.dcm", "liver_deflate.dcm", "DICOMDIR"} <= {
        Path(name).name for name in became["refused"]
    }


def test_a_real_series_stays_a_series(hounsfield_data: Path) -> None:
    with tarfile.open(hounsfield_data / "ct" / "lidc" / "LIDC-IDRI-0001_series.tar.gz") as tar:
        members = [member for member in tar if member.name.endswith(".dcm")][:12]
        files = [file.read() for member in members if (file := tar.extractfile(member)) is not None]
    cleaner = deidentifier()
    originals = [dcmread(BytesIO(raw)) for raw in files]
    results = [cleaner.clean(original, PSEUDONYM).dataset for original in originals]
    assert len({result.SeriesInstanceUID for result in results}) == 1
    assert len({result.SOPInstanceUID for result in results}) == len(files)
    assert [result.ImagePositionPatient for result in results] == [o.ImagePositionPatient for o in originals]
