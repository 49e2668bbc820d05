"""Objects as local files, for libraries that read paths."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from shared.storage.port import Bucket, Storage

BLOCK = 1 << 20


@contextmanager
def as_file(storage: Storage, bucket: Bucket, key: str) -> Iterator[Path]:
    """The object in a temporary file without a telling name, gone with the block. Raises ObjectNotFound."""
    with TemporaryDirectory(prefix="hounsfield-") as folder:
        path = Path(folder) / "object"
        with storage.open(bucket, key) as stream, path.open("wb") as file:
            shutil.copyfileobj(stream, file, BLOCK)
        yield path
