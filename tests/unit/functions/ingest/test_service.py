"""How much ingest holds in memory, and what is too much of a study."""

import gzip
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from functions.ingest.service import UnusableFiles, describe
from shared.config import Settings
from shared.db.models import Study, StudyFile
from shared.db.session import Database
from shared.runtime import Services
from shared.security.sealing import BrokenSeal, name_ring
from shared.storage.folder import FolderStorage
from shared.storage.port import ObjectNotFound
from shared.storage.signing import UrlSigner
from tests.builders import nifti_file, nifti_header

MIB = 2**20
SIDE = 256
"""Voxels, and millimetres, along each axis: 64 MiB of float32."""


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


def described_elsewhere(limit: int, bomb: Path, *names: str) -> tuple[int, str]:
    """MiB by which the peak rose, and the outcome, of a study of `bomb` under each of `names`."""
    paths = [bomb.with_name(name) for name in names]
    for path in paths:
        path.unlink(missing_ok=True)
        path.hardlink_to(bomb)
    command = [sys.executable, "-m", "tests.unit.functions.ingest.volumes_in_memory", str(limit)]
    done = subprocess.run([*command, *map(str, paths)], check=True, stdout=subprocess.PIPE, text=True)
    risen, outcome = done.stdout.strip().split("\t")
    return int(risen), outcome


NAMED = ("t1.nii.gz", "t1ce.nii.gz", "t2.nii.gz", "flair.nii.gz")


def test_volumes_that_form_or_name_tells_are_never_held_in_memory(bomb: Path) -> None:
    risen, outcome = described_elsewhere(256 * MIB, bomb, *NAMED)
    assert outcome == "t1, t1ce, t2, flair"
    assert risen < 48  # one volume has 64 MiB, the study 256 MiB


def test_of_volumes_that_the_image_must_tell_one_is_held_at_a_time(bomb: Path) -> None:
    one, _ = described_elsewhere(256 * MIB, bomb, "a.nii.gz")
    four, outcome = described_elsewhere(256 * MIB, bomb, "a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz")
    assert "image tells the sequence" in outcome
    assert one > 64  # it was looked at
    assert four < one + 48


def test_a_study_over_the_limit_is_refused_by_its_headers_alone(bomb: Path) -> None:
    risen, outcome = described_elsewhere(255 * MIB, bomb, *NAMED)
    assert outcome == (
        "the volumes of the study take 256 MiB when decompressed; "
        "the limit is 255 MiB for all of them together"
    )
    assert risen < 16


def services_of(folder: Path, limit: int) -> Services:
    storage = FolderStorage(folder, UrlSigner(b"secret"), "http://127.0.0.1")
    settings = Settings(max_volume_bytes=limit, data_dir=folder)
    return Services(settings, Database("postgresql+psycopg2://nowhere"), storage)


def study_of(services: Services, *files: Path) -> Study:
    study = Study(kind="brain-mri")
    for number, path in enumerate(files):
        services.storage.put("studies", path.name, path.read_bytes())
        study.files.append(
            StudyFile(id=UUID(int=number), filename=path.name, bucket="studies", key=path.name)
        )
    return study


def test_scaled_voxels_count_as_the_floats_that_they_become(tmp_path: Path) -> None:
    header = nifti_header((64,) * 3, datatype=2, bitpix=8, scl_slope=2.0, pixdim=np.full(8, 2.0))
    path = nifti_file(tmp_path / "t1.nii", header, bytes(64**3), compressed=False)
    services = services_of(tmp_path / "objects", 64**3 + 1000)
    with pytest.raises(UnusableFiles, match=r"take 1 MiB when decompressed; the limit is 0 MiB"):
        describe(services, study_of(services, path))


def test_the_sealed_name_tells_the_sequence_and_one_that_no_key_opens_is_no_fault_of_the_file(
    tmp_path: Path,
) -> None:
    header = nifti_header((80,) * 3)
    path = nifti_file(tmp_path / "a.nii.gz", header, np.arange(80**3, dtype="<i2").tobytes())
    services = services_of(tmp_path / "objects", 2**30)
    study = study_of(services, path)
    [file], names = study.files, services.once(name_ring)
    file.filename, file.filename_sealed = None, names.seal("Doe_Jane_t2.nii.gz", file.id)
    assert [found.modality for found in describe(services, study)] == ["t2"]
    file.filename_sealed = names.seal("Doe_Jane_t2.nii.gz", UUID(int=7))
    with pytest.raises(BrokenSeal):  # so it is tried again, with the key there perhaps
        describe(services, study)


def test_a_fault_of_one_file_is_said_of_that_file(tmp_path: Path) -> None:
    good = nifti_file(
        tmp_path / "t1.nii.gz", nifti_header((80,) * 3), np.arange(80**3, dtype="<i2").tobytes()
    )
    short = nifti_file(tmp_path / "t2.nii.gz", nifti_header((80,) * 3), bytes(80**3))
    services = services_of(tmp_path / "objects", 2**30)
    with pytest.raises(UnusableFiles, match=r"^file 2: The file ends after"):
        describe(services, study_of(services, good, short))


def test_an_object_that_is_missing_is_no_fault_of_the_files(tmp_path: Path) -> None:
    path = nifti_file(tmp_path / "t1.nii.gz", nifti_header((80,) * 3), bytes(2 * 80**3))
    services = services_of(tmp_path / "objects", 2**30)
    study = study_of(services, path)
    services.storage.delete("studies", path.name)
    with pytest.raises(ObjectNotFound):
        describe(services, study)
