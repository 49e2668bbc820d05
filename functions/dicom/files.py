"""Files for what is being received: without a name, so that nothing of it stays when the process dies."""

import shutil
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

PREAMBLE = bytes(128) + b"DICM"


def unnamed_file(folder: Path | None) -> IO[bytes]:
    """A new file in this folder, or the system's for temporary ones; it is gone once it is closed."""
    return TemporaryFile(dir=folder)


def path_of(file: IO[bytes]) -> Path:
    """Another way to the same bytes while the file is open, for who opens files by themselves."""
    return Path(f"/dev/fd/{file.fileno()}")


def has_preamble(file: IO[bytes]) -> bool:
    """Whether the file begins as PS3.10 §7.1 has it, or not with file meta information either: then it is not ours to
    mend."""
    file.seek(0)
    head = file.read(len(PREAMBLE))
    return head[128:] == b"DICM" or not head.startswith(b"\x02\x00")


def with_preamble(file: IO[bytes], folder: Path | None) -> IO[bytes]:
    """A copy with the preamble that some clients leave out."""
    whole = unnamed_file(folder)
    whole.write(PREAMBLE)
    file.seek(0)
    shutil.copyfileobj(file, whole, 1 << 20)
    whole.flush()
    return whole
