"""The slides that this process has open because somebody looks at them: a few, the least lately used closed first."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from openslide import OpenSlideCache

from shared.errors import Unavailable
from shared.imaging.slide.errors import BrokenSlide
from shared.imaging.slide.reading import open_slide
from shared.imaging.slide.zoom import Zoom
from shared.runtime.services import Services
from shared.storage.port import Bucket, Storage

MOST_SLIDES = 32
IDLE_SECONDS = 600.0
"""A slide that nobody looks at for this long is closed, and its copy deleted, also that of a slide that was deleted."""
PATIENCE_SECONDS = 8.0
"""How long a request waits for a slide that is being fetched; others need its thread."""
FETCHERS = 4
TILE_CACHE_BYTES = 256 * 2**20
"""Decoded pixels that all open slides share."""


@dataclass(frozen=True)
class StoredSlide:
    """Where a slide lies, and which state of it. Not who may see it: that is asked with every request."""

    bucket: Bucket
    key: str
    size: int
    sha256: str


@dataclass
class _Entry:
    """An open slide, or one that is being fetched. files: what to close with it."""

    slide: StoredSlide
    opened: Future[Zoom]
    files: ExitStack
    used_at: float
    users: int = 0
    dropped: bool = False

    @property
    def is_idle(self) -> bool:
        return not self.users and self.opened.done()


@dataclass
class OpenSlides:
    """At most `most_slides` of them and `most_bytes` of files, and more only while all are in use. Thread-safe."""

    storage: Storage
    most_bytes: int
    most_slides: int = MOST_SLIDES
    patience: float = PATIENCE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _entries: OrderedDict[StoredSlide, _Entry] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._cache = OpenSlideCache(TILE_CACHE_BYTES)
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="slide")

    @contextmanager
    def use(self, slide: StoredSlide) -> Iterator[Zoom]:
        """The open slide, which stays so for the block.

        Raises Unavailable while it is still being fetched, ObjectNotFound, BrokenSlide, UnsupportedImage.
        """
        entry = self._take(slide)
        try:
            yield self._wait(entry)
        except BrokenSlide:
            self._drop(entry)  # OpenSlide answers nothing more after an error
            raise
        finally:
            self._give_back(entry)

    def close_idle(self, seconds: float = IDLE_SECONDS) -> int:
        """Close what was not used for that long; returns how many."""
        with self._lock:
            before = self.clock() - seconds
            old = [entry for entry in self._entries.values() if entry.is_idle and entry.used_at <= before]
            for entry in old:
                self._remove(entry)
        return len(old)

    def close(self) -> None:
        """Close all; to be called when no request runs any more."""
        self._fetchers.shutdown(cancel_futures=True)
        with self._lock:
            for entry in list(self._entries.values()):
                self._remove(entry)

    def __len__(self) -> int:
        return len(self._entries)

    def _take(self, slide: StoredSlide) -> _Entry:
        with self._lock:
            entry = self._entries.get(slide)
            if entry is None:
                self._make_room(slide.size)
                files = ExitStack()
                opened = self._fetchers.submit(self._open, slide, files)
                entry = self._entries[slide] = _Entry(slide, opened, files, self.clock())
            self._entries.move_to_end(slide)
            entry.users += 1
            return entry

    def _wait(self, entry: _Entry) -> Zoom:
        try:
            return entry.opened.result(self.patience)
        except TimeoutError:
            raise Unavailable(
                "the slide is being fetched; try again in some seconds", headers={"Retry-After": "5"}
            ) from None
        finally:
            if entry.opened.done() and entry.opened.exception():
                self._drop(entry)

    def _open(self, slide: StoredSlide, files: ExitStack) -> Zoom:
        with ExitStack() as opening:
            path = opening.enter_context(self.storage.local_path(slide.bucket, slide.key))
            opened = opening.enter_context(open_slide(path))
            opened.set_cache(self._cache)
            zoom = Zoom(opened)
            files.push(opening.pop_all())
        return zoom

    def _make_room(self, size: int) -> None:
        """Close the least lately used until there is room, or all others are in use."""
        for entry in list(self._entries.values()):
            held = sum(other.slide.size for other in self._entries.values())
            if len(self._entries) < self.most_slides and held + size <= self.most_bytes:
                return
            if entry.is_idle:
                self._remove(entry)

    def _drop(self, entry: _Entry) -> None:
        with self._lock:
            entry.dropped = True
            if self._entries.get(entry.slide) is entry:
                del self._entries[entry.slide]

    def _give_back(self, entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
            entry.used_at = self.clock()
            if entry.dropped and entry.is_idle:
                entry.files.close()

    def _remove(self, entry: _Entry) -> None:
        """The lock is held."""
        del self._entries[entry.slide]
        entry.files.close()


def open_slides(services: Services) -> OpenSlides:
    """This process's, by `services.once`."""
    return OpenSlides(services.storage, services.settings.slide_cache_bytes)


def close_idle(services: Services) -> int:
    """Closes the slides that nobody looks at any more; returns how many."""
    return services.once(open_slides).close_idle()
