import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from shared.client.resume import KEPT_SECONDS, Memory, Remembered, default_folder
from shared.client.sources import File

SERVER = "http://127.0.0.1:8000"


@pytest.fixture
def source(tmp_path: Path) -> File:
    path = tmp_path / "DOE^JANE.nii.gz"
    path.write_bytes(b"voxels")
    return File(path)


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "state" / "uploads")


def remembered(source: File) -> Remembered:
    return Remembered(SERVER, "an-upload", source.fingerprint())


def test_an_upload_is_remembered_for_its_file_server_and_options(memory: Memory, source: File) -> None:
    memory.keep(source, {"kind": "ct"}, remembered(source))
    assert memory.recall(SERVER, source, {"kind": "ct"}) == remembered(source)
    assert memory.recall("http://other", source, {"kind": "ct"}) is None
    assert memory.recall(SERVER, source, {"kind": "ct", "patient_id": "P1"}) is None
    memory.keep(source, {"kind": "ct"}, replace(remembered(source), sha256="ab" * 32))
    found = memory.recall(SERVER, source, {"kind": "ct"})
    assert found is not None
    assert found.sha256 == "ab" * 32
    memory.forget(SERVER, source, {"kind": "ct"})
    assert memory.recall(SERVER, source, {"kind": "ct"}) is None


def test_only_its_owner_reads_it_and_it_names_nobody(memory: Memory, source: File, tmp_path: Path) -> None:
    memory.keep(source, {"patient_id": "DOE-1"}, remembered(source))
    folder = tmp_path / "state" / "uploads"
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "DOE" not in file.name + file.read_text()
    assert str(tmp_path) not in file.read_text()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"server": "x"}', '{"fingerprint": 3}'])
def test_what_cannot_be_read_counts_as_nothing(
    memory: Memory, source: File, tmp_path: Path, content: str
) -> None:
    memory.keep(source, {}, remembered(source))
    (file,) = (tmp_path / "state" / "uploads").iterdir()
    file.write_text(content)
    assert memory.recall(SERVER, source, {}) is None


def test_what_the_server_has_long_given_up_is_forgotten(memory: Memory, source: File, tmp_path: Path) -> None:
    memory.keep(source, {}, remembered(source))
    (old,) = (tmp_path / "state" / "uploads").iterdir()
    os.utime(old, (0, old.stat().st_mtime - KEPT_SECONDS - 60))
    memory.keep(source, {"kind": "ct"}, remembered(source))
    assert not old.exists()
    assert memory.recall(SERVER, source, {"kind": "ct"}) is not None


def test_it_lies_where_the_desktop_keeps_such_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_folder() == Path("/state/hounsfield/uploads")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/anna")
    assert default_folder() == Path("/home/anna/.local/state/hounsfield/uploads")


def test_a_state_of_another_version_is_not_taken(memory: Memory, source: File, tmp_path: Path) -> None:
    memory.keep(source, {}, remembered(source))
    (file,) = (tmp_path / "state" / "uploads").iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"more": 1}))
    assert memory.recall(SERVER, source, {}) is None
