"""Unfinished multipart uploads of the folder store: every part is written straight to its place in one file.

`<folder>/<upload id>/` holds `manifest.json`, which names the object, and `data`, the object as it grows. In folders for
a hundred parts each, an empty file `<number>.<ETag>.<size>` stands for a part that was received whole; while one is being
written the file is called `<number>.lock`, and is locked. Completing an upload is renaming `data`: no byte is copied.
"""

import os
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from weakref import WeakValueDictionary

from pydantic import BaseModel, ConfigDict

from shared.storage.disk import (
    FOLDER_MODE,
    Lock,
    Scratch,
    disk_errors,
    lock_at_once,
    make_folder,
    private,
    sync,
    sync_folder,
    write,
)
from shared.storage.part_writer import PartWriter, check_room
from shared.storage.parts import check_number
from shared.storage.port import Bucket, Part, PartBusy, PartMismatch, UploadNotFound

_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_RECEIVED = re.compile(r"(?P<number>[0-9]{5})\.(?P<etag>[0-9a-f]{32})\.(?P<size>[0-9]{1,10})")


class Manifest(BaseModel):
    """What an upload is for."""

    model_config = ConfigDict(frozen=True)

    bucket: Bucket
    key: str
    media_type: str | None
    part_bytes: int


class Uploads:
    """Uploads that were started and neither completed nor aborted. Disk trouble raises Unavailable."""

    def __init__(self, folder: Path, scratch: Scratch) -> None:
        self._root = folder
        self._scratch = scratch
        self._queues: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        make_folder(folder)

    def start(self, manifest: Manifest) -> str:
        """Make an upload and return its id, which cannot be guessed."""
        upload_id = secrets.token_hex(16)
        folder = self._root / upload_id
        with disk_errors(), self._scratch.file() as handle:
            write(handle, manifest.model_dump_json().encode())
            sync(handle)
            folder.mkdir(FOLDER_MODE)
            open(folder / "data", "xb", opener=private).close()
            os.rename(handle.name, folder / "manifest.json")
            sync_folder(folder)
            sync_folder(self._root)
        return upload_id

    def manifest(self, upload_id: str) -> Manifest:
        """Raises UploadNotFound."""
        folder = self._folder(upload_id)
        with disk_errors(), _upload_gone():
            # Without its data it was completed, by a process that was killed before it could tidy up.
            (folder / "data").stat()
            return Manifest.model_validate_json((folder / "manifest.json").read_bytes())

    def started(self) -> Iterator[tuple[str, Manifest]]:
        """Every upload, by its id."""
        with disk_errors():
            names = os.listdir(self._root)
        for name in names:
            with suppress(UploadNotFound):  # it is just being made, or has ended
                yield name, self.manifest(name)

    @contextmanager
    def held(self, upload_id: str) -> Iterator[Manifest]:
        """The upload, while no other thread or process changes it. Raises UploadNotFound."""
        with disk_errors(), _upload_gone(), Lock(self._folder(upload_id) / "lock").exclusive():
            # Whoever waited for the lock may find that the upload ended meanwhile: read it again.
            yield self.manifest(upload_id)

    def receive(self, upload_id: str, number: int, declared: int = 0) -> PartWriter:
        """A writer of this part, the only one at a time; what was received of it before counts no more.

        `declared` is what the sender says of its size. Raises UploadNotFound, Invalid, PartBusy, TooLarge.
        """
        check_number(number)
        folder = self._folder(upload_id)
        with self.held(upload_id) as manifest, ExitStack() as files:
            check_room(number, declared, manifest.part_bytes)
            path = _guard(folder, number)
            if not path.parent.exists():
                path.parent.mkdir(FOLDER_MODE)
                sync_folder(folder)
            guard = files.enter_context(open(path, "ab", opener=private))
            if not lock_at_once(guard):
                raise PartBusy(f"Part {number} is being received in another request; wait for its end.")
            data = files.enter_context(open(folder / "data", "r+b", buffering=0))
            data.seek((number - 1) * manifest.part_bytes)
            _forget(path)
            return PartWriter(
                data,
                files.pop_all(),
                number,
                manifest.part_bytes,
                confirm=lambda part: self._confirm(upload_id, part),
                leave=lambda: self._leave(upload_id, number),
                queue=self._queues.setdefault(upload_id, threading.Lock()),
            )

    def received(self, upload_id: str) -> list[Part]:
        """Parts by number. Raises UploadNotFound."""
        self.manifest(upload_id)
        with disk_errors(), _upload_gone():
            found = [_part(path.name) for path in self._folder(upload_id).glob("[0-9]*/*")]
            return sorted((part for part in found if part), key=lambda part: part.number)

    def seal(self, upload_id: str, parts: list[Part]) -> Path:
        """The file of an upload that is `held`, as long as these parts, which are all of it.

        Raises PartBusy while a part is being received, PartMismatch where one does not fill its place.
        """
        with disk_errors(), _upload_gone():
            self._refuse_writers(upload_id)
            part_bytes = self.manifest(upload_id).part_bytes
            if short := [part for part in parts[:-1] if part.size != part_bytes]:
                raise PartMismatch(
                    f"Part {short[0].number} has {short[0].size} bytes; every part but the last has {part_bytes}."
                )
            path = self._folder(upload_id) / "data"
            with open(path, "r+b") as file:
                file.truncate((len(parts) - 1) * part_bytes + parts[-1].size)
                sync(file)
            return path

    def drop(self, upload_id: str) -> None:
        """Forget an upload and its parts. Raises UploadNotFound."""
        with disk_errors(), _upload_gone():
            self._scratch.discard(self._folder(upload_id))

    def sweep(self) -> None:
        """Forget uploads that were completed by processes that were killed before they could."""
        for manifest in self._root.glob("*/manifest.json"):
            if not (manifest.parent / "data").exists():
                try:
                    self._scratch.discard(manifest.parent)
                except FileNotFoundError:  # another process was quicker
                    continue

    def _refuse_writers(self, upload_id: str) -> None:
        """Whoever still writes has the file open, and would change it after it became an object."""
        for path in self._folder(upload_id).glob("[0-9]*/*.lock"):
            with open(path, "ab") as guard:
                if not lock_at_once(guard):
                    raise PartBusy(f"Part {int(path.stem)} is still being received.")

    def _confirm(self, upload_id: str, part: Part) -> None:
        with self.held(upload_id):
            guard = _guard(self._folder(upload_id), part.number)
            guard.rename(guard.with_name(f"{guard.stem}.{part.etag}.{part.size}"))
        with _upload_gone():
            sync_folder(guard.parent)

    def _leave(self, upload_id: str, number: int) -> None:
        with self.held(upload_id):
            _guard(self._folder(upload_id), number).unlink()

    def _folder(self, upload_id: str) -> Path:
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise UploadNotFound("There is no such upload.")
        return self._root / upload_id


def _guard(folder: Path, number: int) -> Path:
    return folder / f"{number // 100:03d}" / f"{number:05d}.lock"


def _forget(guard: Path) -> None:
    """Let what was received of a part count no more, before its bytes change."""
    names = [name for name in os.listdir(guard.parent) if name.startswith(guard.stem) and _part(name)]
    for name in names:
        (guard.parent / name).unlink()
    if names:
        sync_folder(guard.parent)


def _part(name: str) -> Part | None:
    found = _RECEIVED.fullmatch(name)
    return Part(int(found["number"]), found["etag"], int(found["size"])) if found else None


@contextmanager
def _upload_gone() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UploadNotFound("There is no such upload: never started, completed, or aborted.") from error
