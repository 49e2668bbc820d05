"""The model server's log: it may name what a study is about."""

import os
import time
from pathlib import Path

import pytest

from shared.config import Settings
from shared.oip.server_process import ModelServerProcess


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_only_the_owner_may_read_the_log(tmp_path: Path, umask: int) -> None:
    process = ModelServerProcess(Settings(data_dir=tmp_path, catalogue_dir=tmp_path / "none"))
    before = os.umask(umask)
    try:
        process.launch()
        deadline = time.monotonic() + 10
        while not process.log_file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.stop()
        os.umask(before)
    assert process.log_file.stat().st_mode & 0o777 == 0o600
    assert process.log_file.parent.stat().st_mode & 0o777 == 0o700
