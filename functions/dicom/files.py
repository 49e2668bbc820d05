"""Files for what is being received: without a name, so that nothing of it stays when the process dies."""

from pathlib import Path
from tempfile import TemporaryFile
from typing import IO


def unnamed_file(folder: Path | None) -> IO[bytes]:
    """A new file in this folder, or the system's for temporary ones; it is gone once it is closed."""
    return TemporaryFile(dir=folder)


def path_of(file: IO[bytes]) -> Path:
    """Another way to the same bytes while the file is open, for who opens files by themselves."""
    return Path(f"/dev/fd/{file.fileno()}")
