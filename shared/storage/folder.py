"""Objects as plain files in a folder, for one machine and for tests: `<root>/<bucket>/<key>`.

What is not an object lies beside the buckets: `.meta` (hashes), `.uploads` (unfinished multipart uploads),
`.tmp` (what is being written) and `.lock`. A file copied into a bucket's folder by hand is an object too.
Folders are made with mode 0700 and files with 0600: nobody but the owner reads patients' images.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO

from shared.errors import Conflict, Unavailable
from shared.storage.blocks import feed, stream_of
from shared.storage.disk import (
    FILE_MODE,
    Lock,
    Scratch,
    disk_errors,
    linked_alone,
    make_folder,
    private,
    sync,
    synced_sha256,
    write,
)
from shared.storage.keys import check_key, check_prefix, check_range, is_key
from shared.storage.part_writer import PartWriter
from shared.storage.parts import check_number, check_part_bytes, check_whole, match_parts
from shared.storage.port import (
    BUCKETS,
    PART_BYTES,
    WHOLE,
    Bucket,
    ObjectNotFound,
    ObjectRef,
    Part,
    Storage,
    UploadNotFound,
)
from shared.storage.sidecars import Sidecar, Sidecars
from shared.storage.signing import Grant, UrlSigner
from shared.storage.tree import Absent, Blocked, Tree
from shared.storage.uploads import Manifest, Uploads


class FolderStorage(Storage):
    """The folder adapter. Several processes may use one root.

    Unlike S3, a key cannot lie beneath another object's key ("a" and "a/b"): writing it raises Conflict.
    """

    def __init__(self, root: Path, signer: UrlSigner, base_url: str) -> None:
        """`base_url` is where clients reach the upload function, which serves the signed URLs."""
        self._root = root
        self._signer = signer
        self._base_url = base_url.rstrip("/")
        with disk_errors():
            make_folder(root)
            for bucket in BUCKETS:
                make_folder(root / bucket)
            self._scratch = Scratch(root / ".tmp")
            self._scratch.sweep()
            self._sidecars = Sidecars(root / ".meta", self._scratch)
            self._uploads = Uploads(root / ".uploads", self._scratch)
            self._uploads.sweep()
        self._lock = Lock(root / ".lock")

    def put(
        self, bucket: Bucket, key: str, data: bytes | IO[bytes], media_type: str | None = None
    ) -> ObjectRef:
        check_key(bucket, key)
        digest = hashlib.sha256()
        with self._scratch.file() as handle:
            feed(stream_of(data), digest.update, partial(write, handle))
            sync(handle)
            return self._publish(Path(handle.name), bucket, key, digest.hexdigest(), media_type)

    def adopt(self, bucket: Bucket, key: str, path: Path, media_type: str | None = None) -> ObjectRef:
        check_key(bucket, key)
        with self._scratch.path() as own:
            if not linked_alone(path, own):
                return super().adopt(bucket, key, path, media_type)
            with disk_errors():
                own.chmod(FILE_MODE)
                sha256 = synced_sha256(own)
            return self._publish(own, bucket, key, sha256, media_type)

    def head(self, bucket: Bucket, key: str) -> ObjectRef:
        info, sidecar = self._facts(bucket, key)
        return _described(bucket, key, info, sidecar.sha256 if sidecar else None)

    def media_type(self, bucket: Bucket, key: str) -> str | None:
        """The media type given when the object was written. Raises ObjectNotFound."""
        _, sidecar = self._facts(bucket, key)
        return sidecar.media_type if sidecar else None

    def open(self, bucket: Bucket, key: str) -> IO[bytes]:
        segments = check_key(bucket, key)
        try:
            with disk_errors():
                return self._tree(bucket).open(segments)
        except Absent as error:
            raise _not_found(bucket, key) from error

    def read_range(self, bucket: Bucket, key: str, start: int, length: int) -> bytes:
        check_range(start, length)
        with self.open(bucket, key) as stream, disk_errors():
            size = os.fstat(stream.fileno()).st_size
            stream.seek(min(start, size))
            return stream.read(min(length, size))

    def list_objects(self, bucket: Bucket, prefix: str = "") -> Iterator[ObjectRef]:
        start = check_prefix(bucket, prefix)
        return self._listed(bucket, start, prefix)

    def delete(self, bucket: Bucket, key: str) -> None:
        segments = check_key(bucket, key)
        with disk_errors(), self._lock.exclusive():
            try:
                self._tree(bucket).remove(segments)
            except Absent:
                return
            self._sidecars.remove(bucket, key)

    def copy(self, source_bucket: Bucket, source_key: str, bucket: Bucket, key: str) -> ObjectRef:
        check_key(bucket, key)
        _, sidecar = self._facts(source_bucket, source_key)
        with self._scratch.path() as path:
            # What somebody else put here may be overwritten in place; what we wrote never is, so a name is enough.
            if not (sidecar and self._linked(source_bucket, source_key, path)):
                self._duplicate(source_bucket, source_key, path)
            sha256, media_type = (sidecar.sha256, sidecar.media_type) if sidecar else (None, None)
            return self._publish(path, bucket, key, sha256, media_type)

    @contextmanager
    def local_path(self, bucket: Bucket, key: str, name: str = WHOLE) -> Iterator[Path]:
        check_key(bucket, key)
        with self._scratch.folder() as folder:
            path = folder / name
            if not self._linked(bucket, key, path):
                self._duplicate(bucket, key, path)
            yield path

    def start_multipart(
        self, bucket: Bucket, key: str, media_type: str | None = None, part_bytes: int = PART_BYTES
    ) -> str:
        check_key(bucket, key)
        check_part_bytes(part_bytes)
        return self._uploads.start(
            Manifest(bucket=bucket, key=key, media_type=media_type, part_bytes=part_bytes)
        )

    def sign_part(self, bucket: Bucket, key: str, upload_id: str, number: int, expires: timedelta) -> str:
        check_number(number)
        check_key(bucket, key)
        _check_upload(self._uploads.manifest(upload_id), bucket, key)
        grant = Grant("part", bucket, key, upload_id=upload_id, number=number)
        return self._base_url + self._signer.sign(grant, expires)

    def receive_part(self, upload_id: str, number: int, declared: int = 0) -> PartWriter:
        """A writer of a part, for a verified URL; the caller closes it. `declared` is the size that the sender tells.

        Raises UploadNotFound, PartBusy, TooLarge, Unavailable. Unlike in S3, what was received of that part before is
        gone from here on. The HTTP answer carries the part's ETag, in quotes, in its ETag header.
        """
        return self._uploads.receive(upload_id, number, declared)

    def put_part(self, upload_id: str, number: int, stream: IO[bytes]) -> Part:
        """Receive a part from a stream, read to its end. Raises as `receive_part`, and TooLarge."""
        with self.receive_part(upload_id, number) as writer:
            feed(stream, writer.write)
            return writer.finish()

    def list_multipart(self, bucket: Bucket, prefix: str = "") -> Iterator[tuple[str, str]]:
        check_prefix(bucket, prefix)
        for upload_id, manifest in self._uploads.started():
            if manifest.bucket == bucket and manifest.key.startswith(prefix):
                yield manifest.key, upload_id

    def list_parts(self, bucket: Bucket, key: str, upload_id: str) -> list[Part]:
        check_key(bucket, key)
        _check_upload(self._uploads.manifest(upload_id), bucket, key)
        return self._uploads.received(upload_id)

    def complete_multipart(self, bucket: Bucket, key: str, upload_id: str, parts: list[Part]) -> ObjectRef:
        check_key(bucket, key)
        with self._uploads.held(upload_id) as manifest:
            _check_upload(manifest, bucket, key)
            chosen = match_parts(parts, self._uploads.received(upload_id))
            check_whole(chosen)
            path = self._uploads.seal(upload_id, chosen)
            ref = self._publish(path, bucket, key, None, manifest.media_type)
            with suppress(UploadNotFound):  # a process that starts sweeps it up
                self._uploads.drop(upload_id)
        return ref

    def abort_multipart(self, bucket: Bucket, key: str, upload_id: str) -> None:
        check_key(bucket, key)
        try:
            with self._uploads.held(upload_id) as manifest:
                _check_upload(manifest, bucket, key)
                self._uploads.drop(upload_id)
        except UploadNotFound:
            return

    def sign_get(self, bucket: Bucket, key: str, expires: timedelta, filename: str | None = None) -> str:
        check_key(bucket, key)
        return self._base_url + self._signer.sign(Grant("get", bucket, key, filename=filename), expires)

    def sweep(self) -> int:
        with disk_errors():
            return self._scratch.sweep()

    def check(self) -> None:
        missing = [bucket for bucket in BUCKETS if not (self._root / bucket).is_dir()]
        if missing:
            raise Unavailable(f"The object store has no bucket {', '.join(missing)}.")
        with self._scratch.file():
            pass

    def _publish(
        self, source: Path, bucket: Bucket, key: str, sha256: str | None, media_type: str | None
    ) -> ObjectRef:
        """Give a file that is on the disk its name. Raises Conflict where the key clashes with another object's."""
        info = source.stat()
        segments, tree = check_key(bucket, key), self._tree(bucket)
        sidecar = Sidecar(
            key=key, size=info.st_size, mtime_ns=info.st_mtime_ns, sha256=sha256, media_type=media_type
        )
        try:
            with disk_errors(), self._sidecars.prepared(bucket, sidecar) as record:
                # One lock for names: a writer's new folders are not removed as empty by a deleter, and of two
                # writers of one key the sidecar that stays is that of the object that stays.
                with self._lock.exclusive():
                    tree.place(source, segments)
                    record()
                tree.sync(segments)
        except Blocked as error:
            raise Conflict("The key lies beneath another object, or other objects beneath it.") from error
        except Absent:  # deleted again before its name was on the disk
            pass
        return ObjectRef(bucket=bucket, key=key, size=info.st_size, sha256=sha256)

    def _facts(self, bucket: Bucket, key: str) -> tuple[os.stat_result, Sidecar | None]:
        """The file's status and, where it is known, what was recorded of it. Raises ObjectNotFound."""
        segments, tree = check_key(bucket, key), self._tree(bucket)
        try:
            with disk_errors():
                info = tree.stat(segments)
                if sidecar := self._sidecars.read(bucket, key, info):
                    return info, sidecar
                with self._lock.shared():  # perhaps just being replaced: look once more while nobody writes
                    info = tree.stat(segments)
                    return info, self._sidecars.read(bucket, key, info)
        except Absent as error:
            raise _not_found(bucket, key) from error

    def _linked(self, bucket: Bucket, key: str, target: Path) -> bool:
        """Give the object's file a second name; False where the file system refuses. Raises ObjectNotFound."""
        try:
            self._tree(bucket).link(check_key(bucket, key), target)
        except Absent as error:
            raise _not_found(bucket, key) from error
        except OSError:
            return False
        return True

    def _duplicate(self, bucket: Bucket, key: str, target: Path) -> None:
        """Copy the object's bytes into a new file. Raises ObjectNotFound, Unavailable."""
        with self.open(bucket, key) as stream, disk_errors(), open(target, "xb", 0, opener=private) as copy:
            feed(stream, partial(write, copy))
            sync(copy)

    def _listed(self, bucket: Bucket, start: list[str], prefix: str) -> Iterator[ObjectRef]:
        with disk_errors():
            for key, info in self._tree(bucket).walk(start, prefix):
                if is_key(key):
                    yield _described(bucket, key, info, None)

    def _tree(self, bucket: Bucket) -> Tree:
        return Tree(self._root / bucket)


def _check_upload(manifest: Manifest, bucket: Bucket, key: str) -> None:
    """An upload id is good only together with the object for which it was started."""
    if (manifest.bucket, manifest.key) != (bucket, key):
        raise UploadNotFound("There is no such upload of this object.")


def _described(bucket: Bucket, key: str, info: os.stat_result, sha256: str | None) -> ObjectRef:
    return ObjectRef(
        bucket=bucket,
        key=key,
        size=info.st_size,
        sha256=sha256,
        etag=f"{info.st_mtime_ns:x}-{info.st_size:x}",
        modified=datetime.fromtimestamp(info.st_mtime, UTC),
    )


def _not_found(bucket: Bucket, key: str) -> ObjectNotFound:
    # The key is for the caller; it stays out of the text, which may be logged.
    return ObjectNotFound(f"There is no object of that key in {bucket}.", bucket=bucket, key=key)
