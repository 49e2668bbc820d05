"""Real series, unpacked once for the run."""

import tarfile
from pathlib import Path

import pytest


def _unpacked(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def lidc(hounsfield_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LIDC-IDRI-0001: 133 planes of a chest."""
    archive = hounsfield_data / "ct" / "lidc" / "LIDC-IDRI-0001_series.tar.gz"
    return _unpacked(archive, tmp_path_factory.mktemp("lidc"))


@pytest.fixture(scope="session")
def lidc_j2k(hounsfield_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LIDC-IDRI-0002: 48 planes in JPEG 2000."""
    archive = hounsfield_data / "ct" / "lidc" / "LIDC-IDRI-0002_series_j2k.tar.gz"
    return _unpacked(archive, tmp_path_factory.mktemp("lidc_j2k"))


@pytest.fixture(scope="session")
def philips(hounsfield_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with a scout, a series of a head phantom, secondary captures and a DICOMDIR."""
    archive = hounsfield_data / "ct" / "head" / "PHILIPS_phantom_mixed_study.tar.gz"
    return _unpacked(archive, tmp_path_factory.mktemp("philips"))


@pytest.fixture(scope="session")
def odd(hounsfield_data: Path) -> Path:
    """Transfer syntaxes, multi-frame files, reports and other odd ones."""
    return hounsfield_data / "dicom_odd"
