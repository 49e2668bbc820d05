"""The key folder."""

import signal
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.security.ring_folder import OLDEST, RINGS, KeyFile, KeyFolder

moments = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 31), timezones=st.just(UTC))
files = st.builds(KeyFile, moments | st.just(OLDEST), st.sampled_from(RINGS))


@given(file=files)
def test_a_name_says_all_there_is_to_know_of_a_file(file: KeyFile) -> None:
    assert KeyFile.parse(file.name) == file
    assert all(char.isascii() and (char.isalnum() or char in "-._") for char in file.name)


@given(some=st.sets(files, max_size=5))
def test_files_are_listed_oldest_first(some: set[KeyFile], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = KeyFolder(tmp_path_factory.mktemp("keys"))
    for file in some:
        folder.add(file, b"")
    assert list(folder.listing().files) == sorted(some)
    assert [file.begins for file in sorted(some)] == sorted(file.begins for file in some)


@pytest.mark.parametrize(
    "name",
    [
        "..data",
        "..2026_11_21",
        ".names.key.ab12",
        "names.pem",
        "signing.key",
        "names-20261121.key",
        "names-20261345T113000.000000Z.key",
        "names.key.bak",
        "NAMES.key",
        "x.key",
    ],
)
def test_other_files_in_the_folder_are_none_of_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert KeyFolder(tmp_path).listing().files == ()


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert KeyFolder(tmp_path / "none").listing().files == ()


def test_a_file_is_never_written_over(tmp_path: Path) -> None:
    folder, file = KeyFolder(tmp_path), KeyFile(OLDEST, "names")
    folder.add(file, b"first")
    with pytest.raises(FileExistsError):
        folder.add(file, b"second")
    assert folder.read(file) == b"first"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_only_the_owner_reads_folder_and_files(tmp_path: Path) -> None:
    folder, file = KeyFolder(tmp_path / "keys"), KeyFile(OLDEST, "audit")
    with folder.locked():
        folder.add(file, b"")
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder.path / file.name).stat().st_mode) == 0o600


KILLED = """
import os, signal, sys
from pathlib import Path
from shared.security.ring_folder import OLDEST, KeyFile, KeyFolder

os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
folder = KeyFolder(Path(sys.argv[1]))
with folder.locked():
    folder.add(KeyFile(OLDEST, "root"), b"secret")
"""


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.read_bytes() == b"secret"
    others = {tmp_path / name for name in ("..data", ".notes.12345678", ".root.key.swp", "root.key")}
    for other in others:
        other.write_bytes(b"")
    with KeyFolder(tmp_path).locked():
        assert set(tmp_path.iterdir()) == others


def test_the_listing_tells_that_a_file_was_swapped(tmp_path: Path) -> None:
    folder, file = KeyFolder(tmp_path), KeyFile(OLDEST, "root")
    folder.add(file, b"one")
    before = folder.listing()
    assert folder.listing() == before
    while folder.listing() == before:  # a folder's time stands still for some milliseconds
        folder.remove(file)
        folder.add(file, b"two")


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with KeyFolder(tmp_path).locked():
            order.append("second")

    with KeyFolder(tmp_path).locked():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
