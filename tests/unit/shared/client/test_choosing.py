import io
import tarfile
from pathlib import Path

import pytest

from shared.client.choosing import sources_of
from shared.client.errors import CallFailed
from shared.client.sending import Sending
from shared.client.sources import Source


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def sending(notes: list[str]) -> Sending:
    return Sending(on_note=notes.append)


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def packed_names(source: Source) -> list[str]:
    content = b"".join(source.blocks(0, source.size))
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        return tar.getnames()


def test_a_folder_of_volumes_is_sent_as_they_are(tmp_path: Path, sending: Sending) -> None:
    folder = make(tmp_path / "volumes", "b_t1.nii.gz", "a_flair.nii")
    assert [one.name for one in sources_of([folder], sending)] == ["a_flair.nii", "b_t1.nii.gz"]


def test_any_other_folder_is_one_tar_that_names_nobody(
    tmp_path: Path, sending: Sending, notes: list[str]
) -> None:
    folder = make(tmp_path / "DOE^JANE", "DOE 2.dcm", "DOE 1.dcm", ".hidden", "x/DOE.nii")
    (source,) = sources_of([folder], sending)
    assert (source.name, packed_names(source)) == ("folder.tar", ["000001", "000002", "000003"])
    assert notes == [f"{folder}: 1 left out (hidden, empty, links, or no files)"]


def test_a_mirax_slide_goes_with_its_folder_under_neutral_names(tmp_path: Path, sending: Sending) -> None:
    folder = make(tmp_path / "slides", "DOE.mrxs", "DOE/Slidedat.ini", "DOE/Data0000.dat")
    for named in (folder, folder / "DOE.mrxs"):
        (source,) = sources_of([named], sending)
        assert packed_names(source) == ["slide.mrxs", "slide/Data0000.dat", "slide/Slidedat.ini"]


def test_a_slide_whose_files_name_each_other_keeps_their_names_and_says_so(
    tmp_path: Path, sending: Sending, notes: list[str]
) -> None:
    long = "p" * 120 + ".jpg"  # longer than a plain tar header holds
    folder = make(tmp_path / "slide", "a.vms", long, "é.jpg")
    (source,) = sources_of([folder], sending)
    assert packed_names(source) == ["a.vms", long, "é.jpg"]
    assert "names of its files are sent" in notes[0]


def test_nothing_to_send_is_told_of(tmp_path: Path, sending: Sending) -> None:
    with pytest.raises(CallFailed, match="holds no files"):
        sources_of([make(tmp_path / "folder", ".hidden")], sending)
    with pytest.raises(CallFailed, match="at least one"):
        sources_of([], sending)
