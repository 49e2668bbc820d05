"""Files that are there whole or not at all."""

import stat
from pathlib import Path

import pytest

from shared.files import unfinished, write_whole


def test_a_file_is_written_for_its_owner_alone(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.txt", b"content")
    (file,) = tmp_path.iterdir()
    assert (file.name, file.read_bytes()) == ("a.txt", b"content")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_is_never_written_over_and_the_attempt_leaves_nothing(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.txt", b"first")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "a.txt", b"second")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"first"]


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        (".root.key.0123abcd", "root.key"),
        ("root.key", None),
        (".root.key", None),
        (".root.key.0123ABCD", None),
        ("..data", None),
    ],
)
def test_a_file_that_was_not_finished_is_known_by_its_name(name: str, whole: str | None) -> None:
    assert unfinished(name) == whole
