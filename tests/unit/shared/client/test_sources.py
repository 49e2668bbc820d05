import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.client.errors import CallFailed, FileChanged
from shared.client.sources import BLOCK_BYTES, File, Packed, Source, look_through


def whole(source: Source) -> bytes:
    return b"".join(source.blocks(0, source.size))


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Three files of a patient, and what is not to be sent with them."""
    folder = tmp_path / "DOE^JANE"
    (folder / "b").mkdir(parents=True)
    (folder / "IM2").write_bytes(b"2" * 700)
    (folder / "IM10").write_bytes(b"10")
    (folder / "b" / "IM1").write_bytes(b"1" * 512)
    (folder / ".DS_Store").write_bytes(b"hidden")
    (folder / "empty").write_bytes(b"")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_bytes(b"hidden")
    (folder / "link").symlink_to(folder / "IM2")
    (folder / "elsewhere").symlink_to(tmp_path)
    return folder


def packed(folder: Path) -> Packed:
    return Packed(folder, look_through(folder)[0])


def test_a_folder_is_one_tar_of_its_files_under_numbers(series: Path) -> None:
    content = whole(packed(series))
    assert b"DOE" not in content
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        members = tar.getmembers()
        read = [tar.extractfile(member) for member in members]
        assert [file and file.read() for file in read] == [b"10", b"2" * 700, b"1" * 512]
    assert [member.name for member in members] == ["000001", "000002", "000003"]
    assert {member.mtime for member in members} == {0}
    assert packed(series).size == len(content)


def test_hidden_files_links_and_empty_ones_are_left_out_and_counted(series: Path) -> None:
    assert look_through(series)[1] == 5


def test_the_same_files_make_the_same_tar_whenever_and_wherever(series: Path, tmp_path: Path) -> None:
    before = whole(packed(series))
    os.utime(series / "IM2", (1, 1))
    moved = series.rename(tmp_path / "elsewhere")
    assert whole(packed(moved)) == before


@given(start=st.integers(0, 6000), length=st.integers(0, 6000))
def test_a_tar_can_be_read_from_anywhere(
    series_of_sizes: Packed, whole_tar: bytes, start: int, length: int
) -> None:
    read = b"".join(series_of_sizes.blocks(start, length))
    assert read == whole_tar[start : start + length]


@pytest.fixture(scope="module")
def series_of_sizes(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    folder = tmp_path_factory.mktemp("series")
    for size in (1, 511, 512, 513, 1024):
        (folder / f"{size:04d}").write_bytes(bytes([size % 251]) * size)
    return packed(folder)


@pytest.fixture(scope="module")
def whole_tar(series_of_sizes: Packed) -> bytes:
    content = whole(series_of_sizes)
    assert len(content) == series_of_sizes.size == 1024 * 3 + 512 + 1024 + 1536 + 1024
    return content


def test_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "scan.bin"
    content = os.urandom(2 * BLOCK_BYTES + 5)
    path.write_bytes(content)
    blocks = list(File(path).blocks(3, 2 * BLOCK_BYTES))
    assert b"".join(blocks) == content[3 : 3 + 2 * BLOCK_BYTES]
    assert max(map(len, blocks)) == BLOCK_BYTES


def test_a_name_that_is_no_text_is_told_as_far_as_it_is_one(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"M\xc3\xbcller \xff.nii")
    path.write_bytes(b"0123456789")
    assert File(path).name == "Müller \ufffd.nii"
    assert whole(File(path)) == b"0123456789"


def test_a_file_that_became_shorter_is_told_of(tmp_path: Path, series: Path) -> None:
    path = tmp_path / "scan.bin"
    path.write_bytes(b"0123456789")
    file, tar = File(path), packed(series)
    path.write_bytes(b"0123")
    (series / "IM2").write_bytes(b"")
    for source in (file, tar):
        with pytest.raises(FileChanged, match="became shorter"):
            whole(source)


def test_a_file_is_known_by_size_time_and_edges_not_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "scan.bin"
    path.write_bytes(b"a" * 300_000)
    first = File(path).fingerprint()
    moved = path.rename(tmp_path / "other.bin")
    assert File(moved).fingerprint() == first
    with moved.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"b")
    os.utime(moved, ns=(first.mtime_ns, first.mtime_ns))
    assert File(moved).fingerprint() != first
    moved.write_bytes(b"a" * 300_000)
    assert File(moved).fingerprint().digest == first.digest
    os.utime(moved, (1, 1))
    assert File(moved).fingerprint() != first


def test_a_series_with_another_slice_or_another_time_is_another(series: Path) -> None:
    source = packed(series)
    first = source.fingerprint()
    assert packed(series).fingerprint() == first
    os.utime(series / "IM10", (1, 1))
    assert packed(series).fingerprint() != first
    (series / "IM2").write_bytes(b"2" * 701)
    changed = source.fingerprint()
    assert changed != first
    (series / "IM3").write_bytes(b"3")
    assert packed(series).fingerprint() != changed


@pytest.mark.parametrize("what", ["empty", "missing", "."])
def test_what_cannot_be_sent_is_named(tmp_path: Path, what: str) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(CallFailed, match=str(tmp_path / what)):
        File(tmp_path / what)


def test_a_large_member_has_a_size_that_tar_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(9 << 30)  # a hole: takes no room
    source = packed(tmp_path)
    header = next(source.blocks(0, 512))
    assert tarfile.TarInfo.frombuf(header, "utf-8", "strict").size == 9 << 30
    end = b"".join(source.blocks(source.size - 1024, 2000))
    assert end == bytes(1024)
    assert (
        hashlib.sha256(next(source.blocks(512 + (9 << 30) - 10, 10))).digest()
        == hashlib.sha256(bytes(10)).digest()
    )


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CallFailed, match="neither a file nor a folder"):
        File(tmp_path / "pipe")
