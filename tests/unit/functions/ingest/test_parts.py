"""The small decisions: names, patients, temporary folders, full disks."""

import errno
import fcntl
import shutil
from collections import namedtuple
from pathlib import Path
from uuid import UUID

import pytest

from functions.ingest.faults import UnusableFiles, fault_of, room_in
from functions.ingest.folders import PREFIX, sweep, work_folder
from functions.ingest.packing import pseudonym_of, spoken_name
from shared.config import Settings
from shared.errors import Invalid, Unavailable
from shared.imaging.dicom.deid_pseudonyms import Pseudonyms
from shared.imaging.dicom.headers import read_header
from shared.imaging.dicom.instance import Instance
from tests.unit.shared.imaging.dicom.builders import make_image, save

PSEUDONYMS = Pseudonyms(bytes(range(32)), UUID(int=1))
Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("name", "spoken"),
    [
        ("Doe^Jane", "Jane Doe"),
        ("Doe^Jane^Mary^Dr^PhD", "Dr Jane Mary Doe PhD"),
        ("Doe", "Doe"),
        ("Yamada^Tarou=山田^太郎", "Tarou Yamada"),
        ("=山田^太郎", "太郎 山田"),
        ("^^^^", ""),
        ("", ""),
        ("A^B^C^D^E^F^G", "D B C A E"),
    ],
)
def test_a_name_is_kept_as_it_is_spoken(name: str, spoken: str) -> None:
    assert spoken_name(name) == spoken


def images(folder: Path, *patients: tuple[str, str]) -> list[Instance]:
    """An image of each patient: ID and issuer."""
    made = [make_image(PatientID=who or None, IssuerOfPatientID=issuer or None) for who, issuer in patients]
    return [read_header(save(image, folder / f"{n}.dcm")) for n, image in enumerate(made)]


def test_a_patient_is_the_same_with_and_without_the_issuer_in_one_study(tmp_path: Path) -> None:
    found = pseudonym_of(images(tmp_path, ("4711", ""), ("4711", "A"), ("", "")), PSEUDONYMS)
    assert found == PSEUDONYMS.patient("4711", "A") != PSEUDONYMS.patient("4711", "B")


def test_one_id_of_two_issuers_is_two_patients(tmp_path: Path) -> None:
    with pytest.raises(UnusableFiles, match="2 patients"):
        pseudonym_of(images(tmp_path, ("4711", "A"), ("4711", "B")), PSEUDONYMS)


def test_images_that_name_nobody_give_no_pseudonym(tmp_path: Path) -> None:
    assert pseudonym_of(images(tmp_path, ("", "")), PSEUDONYMS) is None


def test_pseudonyms_differ_by_tenant_secret_and_patient() -> None:
    others = [
        PSEUDONYMS.patient("4712", ""),
        Pseudonyms(bytes(range(32)), UUID(int=2)).patient("4711", ""),
        Pseudonyms(bytes(range(1, 33)), UUID(int=1)).patient("4711", ""),
        PSEUDONYMS.patient("4711", ""),
    ]
    assert len(set(others)) == 4
    assert PSEUDONYMS.patient(" 4711 ", "") == PSEUDONYMS.patient("4711", "")


def test_a_work_folder_is_gone_whatever_happens(tmp_path: Path) -> None:
    settings = Settings(work_dir=tmp_path / "work")
    with pytest.raises(ValueError, match="in the block"), work_folder(settings) as folder:
        _fail_in(folder)
    assert list((tmp_path / "work").iterdir()) == []


def test_folders_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path: Path) -> None:
    dead, living, other = tmp_path / f"{PREFIX}dead", tmp_path / f"{PREFIX}living", tmp_path / "other"
    for folder in (dead, living, other):
        folder.mkdir()
        (folder / "lock").touch()
    with (living / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sweep(tmp_path) == 1
    assert sorted(tmp_path.iterdir()) == sorted([living, other])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_fault_of_the_files(tmp_path: Path, code: int) -> None:
    with pytest.raises(Unavailable, match="no room left"), room_in(tmp_path), fault_of("file 1"):
        raise OSError(code, "full")


def test_what_a_program_says_of_files_on_a_full_disk_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 1000))
    with pytest.raises(Unavailable, match="hardly any room"), room_in(tmp_path), fault_of("file 1"):
        raise Invalid("the images cannot be decoded")


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), room_in(tmp_path), fault_of():
        raise PermissionError(errno.EACCES, "not yours")
    with pytest.raises(UnusableFiles, match=r"^file 2: wrong"), room_in(tmp_path), fault_of("file 2"):
        raise Invalid("wrong")


def _fail_in(folder: Path) -> None:
    (folder / "file").write_bytes(b"x")
    assert folder.stat().st_mode & 0o777 == 0o700
    raise ValueError("in the block")
