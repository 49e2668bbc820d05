"""Real samples through the whole of ingest; docs/samples.md tells of all of them (`python -m benchmarks.samples`)."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.config import Settings
from shared.db.session import Database
from shared.runtime import Services
from shared.storage.folder import FolderStorage
from shared.storage.signing import UrlSigner
from tests.intake import Intake, ingesting
from tests.samples import Sample, samples, take_in

SYNTAX = "dicom_odd/cornerstone/CTImage.dcm_"
EXPECTED = {
    "ct/lidc/LIDC-IDRI-0001_series.tar.gz": ("ct", "ingested", r"volume ct 512 × 512 × 133", ""),
    "ct/lidc/LIDC-IDRI-0002_series_j2k.tar.gz": ("ct", "ingested", r"volume ct 512 × 512 × 48", ""),
    "ct/head/PHILIPS_phantom_mixed_study.tar.gz": ("ct", "ingested", r"volume ct", "6 × burned-in"),
    "ct/totalseg/example_ct.nii.gz": ("ct", "ingested", r"volume ct 122 × 101 × 112", "values of its voxels"),
    "ct/totalseg/example_ct_sm_seg.nii.gz": ("", "rejected", "", "sequence|mask"),
    "brain3d/BraTS2021_00006/ (packed)": ("brain-mri", "ingested", "volume t1ce.*", "does not tell"),
    "brain3d/BraTS2021_00006/BraTS2021_00006_seg.nii.gz": ("", "rejected", "", "mask or label map"),
    "brain3d/TCGA-FG-6692_native/ (packed)": ("brain-mri", "ingested", "volume flair", ""),
    "oct_vendor/heyex_test_volume.vol": ("oct", "ingested", "bscans oct", ""),
    "oct_vendor/heyex_xml/ (packed)": ("oct", "ingested", "bscans oct 10 × 40 × 50, fundus", ""),
    "oct_vendor/fds_minimized.fds": ("oct", "ingested", "bscans oct", ""),
    "wsi/CMU-1-Small-Region.svs": ("slide", "ingested", "slide 2967 × 2220|slide 2220 × 2967", ""),
    "wsi/dicom_boxes/ (packed)": ("slide", "ingested", "slide", ""),
    "wsi/broken.svs": ("", "rejected", "", "text file that is no image"),
    "dicom_odd/pydicom/eCT_Supplemental.dcm": ("ct", "ingested", "volume ct 512 × 512 × 2", ""),
    "dicom_odd/highdicom/sm_image.dcm": ("slide", "ingested", "slide 50 × 50", ""),
    "dicom_odd/highdicom/sr_document.dcm": ("", "rejected", "", "structured report"),
    "dicom_odd/cornerstone/no-pixel-data.dcm": ("", "rejected", "", "structured report"),
    "dicom_odd/pydicom/explicit_VR-UN.dcm": ("", "held", "received", "text may be part"),
    "dicom_odd/pydicom/US1_J2KR.dcm": ("", "rejected", "", "modality US"),
    "dicom_odd/cornerstone/CTImage.dcm": ("ct", "ingested", "volume ct 512 × 512 × 1", "one plane"),
    f"{SYNTAX}JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91.dcm": (
        "ct",
        "ingested",
        "volume ct",
        "one plane",
    ),
    f"{SYNTAX}JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm": ("", "rejected", "", "withdrawn"),
    f"{SYNTAX}JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm": ("", "rejected", "", "withdrawn"),
}


@pytest.fixture
def intake(database: Database, settings: Settings) -> Iterator[Intake]:
    storage = FolderStorage(settings.objects_dir, UrlSigner(b"secret"), "http://127.0.0.1")
    services = Services(settings, database, storage)
    with ingesting(services):
        yield Intake(services)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_sample_becomes_what_is_said_of_it(
    intake: Intake, hounsfield_data: Path, tmp_path: Path, name: str
) -> None:
    kind, outcome, made, reason = EXPECTED[name]
    became = take_in(intake, _sample(hounsfield_data, name), tmp_path)
    assert (became.kind, became.outcome) == (kind, outcome), became.reason
    assert re.search(made, became.made), became.made
    assert re.search(reason, became.reason), became.reason


def _sample(data: Path, name: str) -> Sample:
    found = {sample.name: sample for sample in samples(data)}
    return found[name]


def test_the_list_of_samples_is_complete_and_names_no_machine(hounsfield_data: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "samples.md").read_text()
    missing = [sample.name for sample in samples(hounsfield_data) if f"| {sample.name} |" not in page]
    assert missing == []
    assert str(hounsfield_data.resolve()) not in page and os.path.expanduser("~/") not in page
