"""What the folder store knows about an object besides its bytes: SHA-256 and media type.

Kept outside the object tree, one JSON file per object. It counts only while size and modification time are
those of the file: an object that somebody replaced by plain `cp` has no known hash.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.storage.disk import Scratch, make_folder, write
from shared.storage.port import Bucket


class Sidecar(BaseModel):
    """Facts about one written object."""

    model_config = ConfigDict(frozen=True)

    key: str
    size: int
    mtime_ns: int
    sha256: str | None
    media_type: str | None

    def describes(self, info: os.stat_result) -> bool:
        """Whether the file is still the one that was written."""
        return (self.size, self.mtime_ns) == (info.st_size, info.st_mtime_ns)


class Sidecars:
    """The sidecars of one store. Errors of the file system are the caller's."""

    def __init__(self, folder: Path, scratch: Scratch) -> None:
        self._root = folder
        self._scratch = scratch
        make_folder(folder)

    @contextmanager
    def prepared(self, bucket: Bucket, sidecar: Sidecar) -> Iterator[Callable[[], object]]:
        """Write the sidecar; calling the result makes it count.

        What can run out of space is thus done before the object gets its name. Nothing is forced to the disk:
        a crash can lose a hash, never an object.
        """
        path = self._path(bucket, sidecar.key)
        make_folder(path.parent.parent)
        make_folder(path.parent)
        with self._scratch.file() as handle:
            write(handle, sidecar.model_dump_json().encode())
            yield lambda: Path(handle.name).rename(path)

    def read(self, bucket: Bucket, key: str, info: os.stat_result) -> Sidecar | None:
        """What was recorded for the file that has this size and these times, if anything."""
        with suppress(FileNotFoundError, ValidationError):
            sidecar = Sidecar.model_validate_json(self._path(bucket, key).read_bytes())
            return sidecar if sidecar.describes(info) else None
        return None

    def remove(self, bucket: Bucket, key: str) -> None:
        """Forget it; one that is not there is no error."""
        self._path(bucket, key).unlink(missing_ok=True)

    def _path(self, bucket: Bucket, key: str) -> Path:
        # By hash: a key's own segments may already be as long as a file name can be.
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._root / bucket / name[:2] / f"{name}.json"
