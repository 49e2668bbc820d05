"""The storage contract. Both adapters pass tests/contract/test_storage.py."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict

from shared.errors import Conflict, NotFound

Bucket = Literal["incoming", "studies", "models"]
BUCKETS: tuple[Bucket, ...] = ("incoming", "studies", "models")
PART_BYTES = 8 * 1024 * 1024
"""Default part size; S3 takes no part under 5 MiB but the last."""
WHOLE = "object"
"""File name of an object that is given as a local file."""


class ObjectNotFound(NotFound):
    """No object under that key."""

    slug, title = "object-not-found", "Object not found"


class UploadNotFound(NotFound):
    """No such multipart upload: never started, finished, or aborted."""

    slug, title = "upload-not-found", "Upload not found"


class PartMismatch(Conflict):
    """A part named at completion was not received, or with another ETag or size than it must have."""

    slug, title = "part-mismatch", "Upload part mismatch"


class PartBusy(Conflict):
    """Another request is sending that part at this moment."""

    slug, title = "part-busy", "Upload part in progress"


class ObjectRef(BaseModel):
    """What events and database rows carry instead of bytes."""

    model_config = ConfigDict(frozen=True)

    bucket: Bucket
    key: str
    version: str | None = None
    size: int
    sha256: str | None = None
    """Hex; None where the object came in parts, or without passing through us, and was not hashed yet."""
    etag: str | None = None
    """Changes when the object does. Filled by `head` and `list_objects` only, like `modified`."""
    modified: datetime | None = None
    """When the object was written; a copy may keep the time of what it was copied from."""

    @property
    def uri(self) -> str:
        """`object://bucket/key`."""
        return object_uri(self.bucket, self.key)


@dataclass(frozen=True)
class Part:
    """One received part of a multipart upload."""

    number: int
    etag: str
    size: int


class Storage(ABC):
    """Objects in three logical buckets. Keys are `/`-separated, relative, without `.` or `..` segments.

    A key that breaks those rules raises Invalid. A reader sees an object whole or not at all: writing goes to a
    temporary name and is renamed last. Instances are thread-safe.
    """

    @abstractmethod
    def put(
        self, bucket: Bucket, key: str, data: bytes | IO[bytes], media_type: str | None = None
    ) -> ObjectRef:
        """Write an object from bytes or from a stream read to its end in blocks; replaces one of the same key."""

    def adopt(self, bucket: Bucket, key: str, path: Path, media_type: str | None = None) -> ObjectRef:
        """`put` of a file that was written for it and that nobody changes from here on; it can be read at `path` still.

        The folder store takes the file itself where it lies on the same disk.
        """
        with path.open("rb") as stream:
            return self.put(bucket, key, stream, media_type)

    @abstractmethod
    def head(self, bucket: Bucket, key: str) -> ObjectRef:
        """The object's reference. Raises ObjectNotFound."""

    @abstractmethod
    def open(self, bucket: Bucket, key: str) -> IO[bytes]:
        """A readable stream of the whole object; the caller closes it. Raises ObjectNotFound."""

    @abstractmethod
    def read_range(self, bucket: Bucket, key: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`, fewer at the end of the object, b"" past it. Raises ObjectNotFound."""

    @abstractmethod
    def list_objects(self, bucket: Bucket, prefix: str = "") -> Iterator[ObjectRef]:
        """Every object whose key starts with `prefix`, in key order (sha256 may be None)."""

    @abstractmethod
    def delete(self, bucket: Bucket, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    @abstractmethod
    def copy(self, source_bucket: Bucket, source_key: str, bucket: Bucket, key: str) -> ObjectRef:
        """Copy an object, without its bytes passing through us where the store can do that. Raises ObjectNotFound."""

    @abstractmethod
    def local_path(self, bucket: Bucket, key: str, name: str = WHOLE) -> AbstractContextManager[Path]:
        """The object as a file of that name, for libraries that read paths, gone at the end of the block.

        The folder store gives the object's own file another name where it can; S3 downloads into its work folder.
        The file is the object as it was at the beginning, to be read only. Raises ObjectNotFound.
        """

    @abstractmethod
    def start_multipart(
        self, bucket: Bucket, key: str, media_type: str | None = None, part_bytes: int = PART_BYTES
    ) -> str:
        """Begin a multipart upload and return its id.

        Parts are numbered 1, 2, 3 and so on, in any order of sending, and have `part_bytes` each; only the last may be
        shorter. (S3 itself is freer; the folder store writes each part straight to its place. It refuses a part that is
        too large when it comes, S3 one that differs from the others at completion.)
        """

    @abstractmethod
    def sign_part(self, bucket: Bucket, key: str, upload_id: str, number: int, expires: timedelta) -> str:
        """A URL to which a client PUTs part `number` (1 to 10,000) and reads its ETag from the answer."""

    @abstractmethod
    def list_multipart(self, bucket: Bucket, prefix: str = "") -> Iterator[tuple[str, str]]:
        """Key and id of every upload under `prefix` that was started and neither completed nor aborted."""

    @abstractmethod
    def list_parts(self, bucket: Bucket, key: str, upload_id: str) -> list[Part]:
        """Parts received so far, by number. Raises UploadNotFound."""

    @abstractmethod
    def complete_multipart(self, bucket: Bucket, key: str, upload_id: str, parts: list[Part]) -> ObjectRef:
        """Join the named parts into the object. Raises UploadNotFound, PartMismatch."""

    @abstractmethod
    def abort_multipart(self, bucket: Bucket, key: str, upload_id: str) -> None:
        """Drop an unfinished upload and its parts; one that is not there is no error."""

    @abstractmethod
    def sign_get(self, bucket: Bucket, key: str, expires: timedelta, filename: str | None = None) -> str:
        """A URL that reads the object without further credentials until it expires."""

    @abstractmethod
    def check(self) -> None:
        """Raise Unavailable unless the store answers and its buckets exist (readiness)."""

    def sweep(self) -> int:
        """Remove what killed processes left on this machine; returns how many files. A remote store has none here."""
        return 0

    def read(self, bucket: Bucket, key: str) -> bytes:
        """The whole object in memory; for small objects. Raises ObjectNotFound."""
        with self.open(bucket, key) as stream:
            return stream.read()

    def delete_prefix(self, bucket: Bucket, prefix: str) -> int:
        """Remove every object under `prefix`; returns how many."""
        keys = [ref.key for ref in self.list_objects(bucket, prefix)]
        for key in keys:
            self.delete(bucket, key)
        return len(keys)


def object_uri(bucket: Bucket, key: str) -> str:
    """`object://bucket/key`, the form in which objects are named to model servers."""
    return f"object://{bucket}/{key}"
