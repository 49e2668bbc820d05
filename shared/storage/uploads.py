"""Unfinished multipart uploads of the folder store.

`<folder>/<upload id>/manifest.json` names the object; a received part is `<number>.<md5>`, so that one rename
publishes its bytes and its ETag together.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict

from shared.storage.blocks import feed
from shared.storage.disk import (
    FOLDER_MODE,
    Lock,
    Scratch,
    disk_errors,
    make_folder,
    sync,
    sync_folder,
    write,
)
from shared.storage.parts import check_number
from shared.storage.port import Bucket, Part, UploadNotFound

_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_PART_NAME = re.compile(r"(?P<number>[0-9]{5})\.(?P<etag>[0-9a-f]{32})")


class Manifest(BaseModel):
    """What an upload is for."""

    model_config = ConfigDict(frozen=True)

    bucket: Bucket
    key: str
    media_type: str | None


class Uploads:
    """Uploads that were started and neither completed nor aborted. Disk trouble raises Unavailable."""

    def __init__(self, folder: Path, scratch: Scratch) -> None:
        self._root = folder
        self._scratch = scratch
        make_folder(folder)

    def start(self, manifest: Manifest) -> str:
        """Make an upload and return its id, which cannot be guessed."""
        upload_id = secrets.token_hex(16)
        folder = self._root / upload_id
        with disk_errors(), self._scratch.file() as handle:
            write(handle, manifest.model_dump_json().encode())
            sync(handle)
            folder.mkdir(FOLDER_MODE)
            Path(handle.name).rename(folder / "manifest.json")
            sync_folder(folder)
            sync_folder(self._root)
        return upload_id

    def manifest(self, upload_id: str) -> Manifest:
        """Raises UploadNotFound."""
        with disk_errors(), _upload_gone():
            return Manifest.model_validate_json((self._folder(upload_id) / "manifest.json").read_bytes())

    @contextmanager
    def held(self, upload_id: str) -> Iterator[Manifest]:
        """The upload, while no other thread or process changes it. Raises UploadNotFound."""
        with disk_errors(), _upload_gone(), Lock(self._folder(upload_id) / "lock").exclusive():
            # Whoever waited for the lock may find that the upload ended meanwhile: read it again.
            yield self.manifest(upload_id)

    def put(self, upload_id: str, number: int, stream: IO[bytes]) -> Part:
        """Receive a part to its end; it replaces one of the same number. Raises UploadNotFound, Invalid."""
        check_number(number)
        self.manifest(upload_id)
        digest = hashlib.md5(usedforsecurity=False)  # what S3 takes for a part's ETag
        with self._scratch.file() as handle:
            size = feed(stream, digest.update, partial(write, handle))
            sync(handle)
            with self.held(upload_id):
                self._publish(Path(handle.name), self._part_path(upload_id, number, digest.hexdigest()))
        return Part(number, digest.hexdigest(), size)

    def received(self, upload_id: str) -> list[Part]:
        """Parts by number. Raises UploadNotFound."""
        self.manifest(upload_id)
        with disk_errors(), _upload_gone():
            found = [
                (path.stat(), name)
                for path in self._folder(upload_id).iterdir()
                if (name := _PART_NAME.fullmatch(path.name))
            ]
        # Two of one number are there only if a writer was killed between naming the new and removing the old.
        found.sort(key=lambda item: (item[1]["number"], item[0].st_mtime_ns))
        newest = {
            int(name["number"]): Part(int(name["number"]), name["etag"], info.st_size) for info, name in found
        }
        return list(newest.values())

    def join(self, upload_id: str, parts: list[Part], *sinks: Callable[[bytes], object]) -> int:
        """Feed the parts' bytes to the sinks, one part after another; returns how many bytes."""
        size = 0
        for part in parts:
            with open(self._part_path(upload_id, part.number, part.etag), "rb") as stream:
                size += feed(stream, *sinks)
        return size

    def drop(self, upload_id: str) -> None:
        """Forget an upload and its parts. Raises UploadNotFound."""
        with disk_errors(), _upload_gone():
            self._scratch.discard(self._folder(upload_id))

    def _publish(self, source: Path, target: Path) -> None:
        source.rename(target)
        for other in target.parent.glob(f"{target.stem}.*"):
            if other != target:
                other.unlink()
        sync_folder(target.parent)

    def _part_path(self, upload_id: str, number: int, etag: str) -> Path:
        return self._folder(upload_id) / f"{number:05d}.{etag}"

    def _folder(self, upload_id: str) -> Path:
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise UploadNotFound("There is no such upload.")
        return self._root / upload_id


@contextmanager
def _upload_gone() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UploadNotFound("There is no such upload: never started, completed, or aborted.") from error
