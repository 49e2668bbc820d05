"""The watched folder of one machine, laid out as the bucket `incoming`: `cp -r study/ DATA_DIR/incoming/default/ct/`.

With the folder store it is that bucket's own folder, and nothing is copied; otherwise files are sent to the bucket and
removed here. A file counts when it has been still for two seconds and nobody has it open for writing. Links are not
followed, hidden and half written files (`*.part`, `*.tmp`) left alone.

The folder is looked through again and again instead of the system being asked to tell of changes: what asks it follows
links, a link to `/` through the whole machine, and it tells nothing of what others change on a shared disk.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from functions.ingest.objects.writers import is_open_for_writing
from shared.config import Settings
from shared.errors import HounsfieldError
from shared.incoming import (
    BUCKET,
    KINDS,
    MARKER,
    NotForUs,
    is_marker,
    note_left,
    place_of,
    take_in,
    tenant_of,
    tenants,
)
from shared.runtime import Services
from shared.storage.blocks import sha256_of
from shared.storage.disk import make_folder
from shared.storage.factory import folder_root
from shared.storage.port import ObjectNotFound
from shared.storage.tree import Absent, Tree

log = structlog.get_logger(__name__)

STILL_SECONDS = 2.0
LOOK_SECONDS = 0.5, 10.0
"""How often the folder is looked through: the least, and the most."""
LOOK_SHARE = 0.05
"""Of a processor, for looking: a folder of very many files is looked through more seldom."""
FORBIDDEN, UNREADABLE = "forbidden", "unreadable"
"""Why what lies in the folder is out of reach: by its permissions, or by a name that no key can be."""
README = """\
Files that are put here become studies: <tenant>/<kind>/<study name>/<files>, or <tenant>/<kind>/<file> for one that is
a study by itself. Kinds: ct, brain-mri, oct, slide; auto finds out. A study is complete half a minute after its last
file, or as soon as a file called _COMPLETE is in its folder. Files go from here once they were read.
"""


State = tuple[int, int, int, int]
"""Size, times of the content and of any change, and number of a file: another one is another file."""


@dataclass
class _Seen:
    """A file as it was first seen in its present state."""

    state: State
    since: float
    sent: bool = False
    """Whether it was put into the bucket, from where it may be gone again: it was read."""
    told: bool = False


class WatchedFolder:
    """Takes in what lies still in `root`."""

    def __init__(
        self, services: Services, root: Path, *, is_bucket: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """is_bucket: whether `root` is the folder store's own folder of the bucket."""
        self._services = services
        self._root = root
        self._tree = Tree(root)
        self._is_bucket = is_bucket
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._barred: dict[str, str] = {}

    def look(self) -> int:
        """Look through the folder once, and take in what has been still for long enough; returns how many files."""
        now, before, barred = self._clock(), self._seen, dict[str, str]()
        self._seen = {}
        for key, state in _files(self._root, barred):
            known = before.get(key)
            self._seen[key] = known if known and known.state == state else _Seen(state, now)
        still = [key for key, one in self._seen.items() if not one.told and now - one.since >= STILL_SECONDS]
        ready = [key for key in still if not self._is_being_written(key, barred)]
        self._tell_of(barred)
        moving = {key for key, one in self._seen.items() if not one.told} - set(ready)
        ready = [key for key in ready if not _is_early(key, moving)]
        if ready:
            self._take(sorted(ready, key=is_marker))
        for key in ready:
            self._seen[key].told = True
        return len(ready)

    def try_to_look(self) -> bool:
        """Look; whether nothing went wrong. What did is tried again the next time."""
        try:
            self.look()
        except (SQLAlchemyError, HounsfieldError, OSError) as error:
            log.warning("the watched folder could not be taken in", error=type(error).__name__)
            return False
        return True

    def watch(self, over: threading.Event) -> None:
        """Look until `over` is set."""
        least, most = LOOK_SECONDS
        pause = 0.0
        while not over.wait(pause):
            started = time.monotonic()
            looked = self.try_to_look()
            took = time.monotonic() - started
            pause = min(max(took / LOOK_SHARE, least), most) if looked else most

    def _tell_of(self, barred: dict[str, str]) -> None:
        """Say once of each file, or folder, that nobody can read it: its study would lack it, and nobody know."""
        new = Counter(why for key, why in barred.items() if key not in self._barred)
        self._barred = barred
        note_left(new, "folder")

    def _take(self, keys: list[str]) -> None:
        sent = keys if self._is_bucket else self._send(keys)
        take_in(self._services, ((key,) for key in keys), "folder")
        if not self._is_bucket:
            for key in sent:
                self._remove(key)

    def _send(self, keys: list[str]) -> list[str]:
        """Put the files that are meant for us into the bucket; returns which. Raises Unavailable."""
        known = tenants(self._services)
        sent = []
        for key in keys:
            with suppress(NotForUs, Absent):
                tenant_of(place_of(key), known)
                if not self._seen[key].sent:
                    self._put(key)
                    self._seen[key].sent = True
                sent.append(key)
        return sent

    def _put(self, key: str) -> None:
        """Unless it is there already: we may have been killed before the file was removed here."""
        storage = self._services.storage
        with self._tree.open(key.split("/")) as file:
            with suppress(ObjectNotFound):
                sha256 = storage.head(BUCKET, key).sha256
                if sha256 and sha256 == sha256_of(file):
                    return
            file.seek(0)
            storage.put(BUCKET, key, file)

    def _remove(self, key: str) -> None:
        """Unless it changed meanwhile: then it is another file."""
        segments = key.split("/")
        with suppress(Absent):
            if _state(self._tree.stat(segments)) == self._seen[key].state:
                self._tree.remove(segments)

    def _is_being_written(self, key: str, barred: dict[str, str]) -> bool:
        """Whether to wait: for who writes the file, or for the permission to read it, which `barred` then tells of."""
        try:
            with self._tree.open(key.split("/")) as file:
                return is_open_for_writing(file.fileno())
        except Absent:
            return True
        except PermissionError:
            barred[key] = FORBIDDEN
            return True


@contextmanager
def watched(services: Services, tenant: str) -> Iterator[Path]:
    """Watch the folder of HOUNSFIELD_INCOMING_DIR while the block runs; it is made ready for `tenant`, by short name."""
    root, is_bucket = prepare(services.settings, tenant)
    folder = WatchedFolder(services, root, is_bucket=is_bucket)
    over = threading.Event()
    thread = threading.Thread(target=folder.watch, args=(over,), name="watched-folder", daemon=True)
    thread.start()
    try:
        yield root
    finally:
        over.set()
        thread.join()


def prepare(settings: Settings, tenant: str) -> tuple[Path, bool]:
    """Make the folder, with a place for each kind; returns where it is, and whether it is the bucket's own folder."""
    root = settings.incoming_dir or settings.data_dir / BUCKET
    objects = folder_root(settings)
    bucket = objects and objects / BUCKET
    if bucket is not None and settings.incoming_dir is None and not os.path.lexists(root):
        make_folder(bucket)
        root.symlink_to(os.path.relpath(bucket, root.parent), target_is_directory=True)
    make_folder(root)
    root = root.resolve()
    for kind in KINDS:
        make_folder(root / tenant)
        make_folder(root / tenant / kind)
        # Folders that get empty are removed; these stay, so that there is always somewhere to copy to.
        (root / tenant / kind / ".keep").touch(0o600)
    (root / "README.txt").write_text(README)
    return root, bucket is not None and root == bucket.resolve()


def _is_early(key: str, moving: Collection[str]) -> bool:
    """Whether a marker is there before the last file of its study is whole."""
    return is_marker(key) and any(other.startswith(key.removesuffix(MARKER)) for other in moving)


def _files(root: Path, barred: dict[str, str]) -> Iterator[tuple[str, State]]:
    """Key and state of every file that may be meant for us; no link is followed. barred: gets what cannot be read, and
    why."""
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as entries:
                found = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            barred[folder] = FORBIDDEN
            continue
        for entry in found:
            key = folder + entry.name
            with suppress(FileNotFoundError):  # it went while we looked; the others did not
                is_folder = entry.is_dir(follow_symlinks=False)
                if not is_folder and not entry.is_file(follow_symlinks=False):
                    continue
                why = _why_left(f"{key}/x/y/z" if is_folder else key)
                if why == UNREADABLE:
                    barred[key] = why
                elif why is None and is_folder:
                    folders.append(f"{key}/")
                elif why is None and folder:
                    yield key, _state(entry.stat(follow_symlinks=False))


def _state(info: os.stat_result) -> State:
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino


def _why_left(key: str) -> str | None:
    """Why a file of this name is not even told of; None where it may be meant for us."""
    try:
        place_of(key)
    except NotForUs as reason:
        return reason.detail if reason.detail in ("ours", "clutter", UNREADABLE) else None
    return None
