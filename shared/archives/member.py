"""What came out of an archive."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Member:
    """One file.

    name: its path in the archive, often with a patient's name in it; a file of an archive inside is under that
    archive's name as under a folder, the one file of a compressed stream is "". path: where it lies. size: in bytes.
    """

    name: str
    path: Path
    size: int
