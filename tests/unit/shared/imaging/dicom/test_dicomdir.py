from pathlib import Path

import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from shared.imaging.dicom.dicomdir import read_dicomdir
from shared.imaging.dicom.errors import DamagedDicom
from shared.imaging.dicom.series import group_series
from tests.unit.shared.imaging.dicom.builders import dataset, make_image, read_all, save


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """Three images and the directory that lists them."""
    images = [make_image(InstanceNumber=number) for number in (1, 2, 3)]
    for number, image in enumerate(images):
        save(image, tmp_path / "IMAGES" / f"I{number}")
    listed = [
        dataset(DirectoryRecordType="IMAGE", ReferencedSOPInstanceUIDInFile=image.SOPInstanceUID)
        for image in images
    ]
    above = [dataset(DirectoryRecordType=kind) for kind in ("PATIENT", "STUDY", "SERIES")]
    directory = dataset(DirectoryRecordSequence=[*above, *listed])
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    directory.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    return tmp_path


def test_a_directory_says_what_should_be_there(disc: Path) -> None:
    directory = read_dicomdir(disc / "DICOMDIR")
    assert directory.records == {"PATIENT": 1, "STUDY": 1, "SERIES": 1, "IMAGE": 3}
    found = [header.sop_uid for header in read_all(disc) if not header.is_directory]
    assert directory.missing(frozenset(found)) == 0
    assert directory.missing(frozenset(found[1:])) == 1


def test_files_are_found_by_their_bytes_and_the_directory_is_no_series(disc: Path) -> None:
    headers = read_all(disc)
    assert sum(header.is_directory for header in headers) == 1
    (series,) = group_series(headers)
    assert len(series.instances) == 3


def test_an_image_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(DamagedDicom, match="no DICOMDIR"):
        read_dicomdir(save(make_image(), tmp_path / "a"))
