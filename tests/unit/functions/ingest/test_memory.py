"""How much ingest holds in memory, and what is too much of a study."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared.runtime import Services
from tests.builders import nifti_file, nifti_header
from tests.intake import Intake, Sent

MIB = 2**20
SIDE = 256
"""Voxels, and millimetres, along each axis: 64 MiB of float32."""
NAMES = ("t1.nii.gz", "t1ce.nii.gz", "t2.nii.gz", "flair.nii.gz")


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file of a large volume: an axis-aligned bright box in darkness."""
    data = np.zeros((SIDE,) * 3, dtype="<f4", order="F")
    data[60:200, 60:200, 60:200] = 500
    data[80:120, 80:120, 80:120] = 700
    header = nifti_header((SIDE,) * 3, datatype=16, bitpix=32)
    path = tmp_path_factory.mktemp("bomb") / "volume.nii.gz"
    path.write_bytes(gzip.compress(header + data.tobytes(order="F"), 1, mtime=0))
    assert path.stat().st_size < 2 * MIB
    return path


def risen(path: Path, tmp_path: Path) -> int:
    """MiB by which the peak of a process rose that checked and rewrote a volume."""
    command = [sys.executable, "-m", "tests.unit.functions.ingest.copying", str(path), str(tmp_path / "copy")]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def test_a_volume_is_checked_and_rewritten_without_being_held(bomb: Path, tmp_path: Path) -> None:
    assert risen(bomb, tmp_path) < 32  # the volume has 64 MiB


def test_a_study_over_the_limit_is_refused_by_its_headers_alone(
    intake: Intake, services: Services, bomb: Path
) -> None:
    services.settings.max_volume_bytes = 255 * MIB
    study = intake.taken(*(Sent(bomb, name) for name in NAMES), kind="brain-mri")
    assert study.message == (
        "the volumes of the study take 256 MiB when decompressed; "
        "the limit is 255 MiB for all of them together"
    )


def test_scaled_voxels_count_as_the_floats_that_they_become(
    intake: Intake, services: Services, tmp_path: Path
) -> None:
    header = nifti_header((64,) * 3, datatype=2, bitpix=8, scl_slope=2.0, pixdim=np.full(8, 2.0))
    path = nifti_file(tmp_path / "t1.nii", header, bytes(64**3), compressed=False)
    services.settings.max_volume_bytes = 64**3 + 1000
    study = intake.taken(path, kind="brain-mri")
    assert "take 1 MiB when decompressed; the limit is 0 MiB" in str(study.message)


def test_a_fault_of_one_file_is_said_of_that_file(intake: Intake, tmp_path: Path) -> None:
    voxels = np.arange(80**3, dtype="<i2").tobytes()
    good = nifti_file(tmp_path / "t1.nii.gz", nifti_header((80,) * 3), voxels)
    short = nifti_file(tmp_path / "t2.nii.gz", nifti_header((80,) * 3), voxels[: 80**3])
    study = intake.taken(good, short, kind="brain-mri")
    assert str(study.message).startswith("file 2: The file ends after")
