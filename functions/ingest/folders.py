"""Folders for temporary files: gone when their work is over, and, where a worker was killed, when the next begins."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.config import Settings

PREFIX = "hounsfield-ingest-"


@contextmanager
def work_folder(settings: Settings) -> Iterator[Path]:
    """A new folder for the block, readable by nobody else. Folders of workers that were killed are removed."""
    parent = settings.work_dir or Path(tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        with (path / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sweep(parent: Path) -> int:
    """Remove the folders whose owner is dead: nobody holds their lock any more. Returns how many."""
    swept = 0
    for path in parent.glob(f"{PREFIX}*"):
        try:
            with (path / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held; or just being made, or gone, or another user's
            continue
        shutil.rmtree(path, ignore_errors=True)
        swept += 1
    return swept
