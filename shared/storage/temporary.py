"""Objects as local files, for libraries that read paths."""

from contextlib import AbstractContextManager
from pathlib import Path

from shared.storage.port import Bucket, Storage


def as_file(storage: Storage, bucket: Bucket, key: str) -> AbstractContextManager[Path]:
    """The object as a file without a telling name, gone with the block. Raises ObjectNotFound."""
    return storage.local_path(bucket, key)
