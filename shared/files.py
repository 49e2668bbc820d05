"""Files that only their owner reads, written whole or not at all."""

import os
import re
import secrets
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file and see that it is on the disk. Raises FileExistsError: none is ever written over."""
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(hidden, path)
    finally:
        hidden.unlink(missing_ok=True)


def unfinished(name: str) -> str | None:
    """What a file was to be called whose writer was killed before it was whole; None for any other name."""
    found = re.fullmatch(r"\.(.+)\.[0-9a-f]{8}", name)
    return found[1] if found else None
