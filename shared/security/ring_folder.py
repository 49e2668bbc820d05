"""The key folder: which keys are there, since when, and how one is added so that nobody ever reads half of it.

A key's file is called `<ring>-<time>.<pem|key>`, such as `names-20261121T113000.000000Z.key`; the time, in UTC, says from
when on it is the one to use. A file without a time (`signing.pem`) is the oldest of its ring. `.pem` holds an Ed25519
private key (PKCS 8), `.key` holds 32 bytes in hexadecimal. Files with other names are none of ours. Everything is in
names and contents, nothing in file times or subfolders, so the folder can be a Kubernetes Secret as it is.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast, get_args

from shared.files import unfinished, write_whole

RingName = Literal["signing", "names", "audit", "root"]
RINGS: tuple[RingName, ...] = get_args(RingName)
SUFFIXES: dict[RingName, str] = {"signing": "pem", "names": "key", "audit": "key", "root": "key"}
OLDEST = datetime(1970, 1, 1, tzinfo=UTC)
"""When a key whose name has no time began."""
_TIME = "%Y%m%dT%H%M%S.%fZ"
_NAME = re.compile(r"(signing|names|audit|root)(?:-(\d{8}T\d{6}\.\d{6}Z))?\.(pem|key)")


@dataclass(frozen=True, order=True)
class KeyFile:
    """What a key's file name says; ordered by age."""

    begins: datetime
    ring: RingName

    @property
    def name(self) -> str:
        """The file's name."""
        time = "" if self.begins == OLDEST else f"-{self.begins.strftime(_TIME)}"
        return f"{self.ring}{time}.{SUFFIXES[self.ring]}"

    @classmethod
    def parse(cls, name: str) -> "KeyFile | None":
        """The key file with this name; None for any other file."""
        if (found := _NAME.fullmatch(name)) is None:
            return None
        ring, time, suffix = cast(RingName, found[1]), found[2], found[3]
        try:
            begins = datetime.strptime(time, _TIME).replace(tzinfo=UTC) if time else OLDEST
        except ValueError:  # the 45th of a month
            return None
        return cls(begins, ring) if suffix == SUFFIXES[ring] else None


@dataclass(frozen=True)
class Listing:
    """The folder at one moment; the same again as long as nothing was added, removed or swapped."""

    changed_ns: int
    files: tuple[KeyFile, ...]


class KeyFolder:
    """A folder of keys that only its owner reads."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def listing(self) -> Listing:
        """What is there now, oldest first; nothing where there is no folder yet."""
        try:
            changed = self.path.stat().st_mtime_ns
            names = os.listdir(self.path)
        except FileNotFoundError:
            return Listing(0, ())
        return Listing(changed, tuple(sorted(file for name in names if (file := KeyFile.parse(name)))))

    def read(self, file: KeyFile) -> bytes:
        """The file's content."""
        return (self.path / file.name).read_bytes()

    def add(self, file: KeyFile, content: bytes) -> None:
        """Write a key, whole or not at all. Raises FileExistsError: no key is ever written over."""
        write_whole(self.path / file.name, content)

    def remove(self, file: KeyFile) -> None:
        """Remove a key; harmless where another was quicker."""
        (self.path / file.name).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers out of the folder, which is made when missing, while the block runs. What writers left
        that were killed is removed: it holds keys."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            self._sweep()
            yield
            os.fsync(folder)
        finally:
            os.close(folder)

    def _sweep(self) -> None:
        for name in os.listdir(self.path):
            if (whole := unfinished(name)) and KeyFile.parse(whole):
                (self.path / name).unlink(missing_ok=True)
