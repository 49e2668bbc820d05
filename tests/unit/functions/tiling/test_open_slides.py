"""Open slides: few at a time, whole while they are used, and gone when nobody looks any more."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from functions.tiling.open_slides import OpenSlides, StoredSlide
from shared.errors import NotFound, Unavailable
from shared.imaging.slide import BrokenSlide
from shared.storage.folder import FolderStorage
from shared.storage.port import WHOLE, Bucket
from shared.storage.signing import UrlSigner
from tests.unit.shared.imaging.slide import samples
from tests.unit.shared.imaging.slide.samples import Image, tiff, tissue


class SlowStorage(FolderStorage):
    """A folder whose objects can be read once `ready` is set, and that counts the copies it has given out."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, UrlSigner(b"k" * 32), "http://localhost")
        self.ready = threading.Event()
        self.ready.set()
        self.paths: list[Path] = []

    @contextmanager
    def local_path(self, bucket: Bucket, key: str, name: str = WHOLE) -> Iterator[Path]:
        self.ready.wait(10)
        with super().local_path(bucket, key, name) as path:
            self.paths.append(path)
            yield path

    @property
    def held(self) -> int:
        """Copies that are still there."""
        return sum(path.exists() for path in self.paths)


@pytest.fixture
def storage(tmp_path: Path) -> SlowStorage:
    return SlowStorage(tmp_path / "objects")


@contextmanager
def opened(storage: SlowStorage, **options: object) -> Iterator[OpenSlides]:
    limits = {"most_bytes": 2**40, "most_slides": 3, **options}
    slides = OpenSlides(storage, **limits)  # type: ignore[arg-type]
    yield slides
    slides.close()
    assert storage.held == 0


def stored(storage: SlowStorage, number: int) -> StoredSlide:
    """A slide of 64 × 64 pixels of one colour, by which it is told."""
    pixels = tissue(64, 64)
    pixels[:] = number
    ref = storage.put("studies", f"slide-{number}", tiff([Image(pixels, 64)]).data)
    assert ref.sha256 is not None
    return StoredSlide(ref.bucket, ref.key, ref.size, ref.sha256)


def look(slides: OpenSlides, slide: StoredSlide) -> object:
    with slides.use(slide) as zoom:
        return zoom.tile(6, 0, 0).getpixel((5, 5))


def test_a_slide_is_opened_once(storage: SlowStorage) -> None:
    slide = stored(storage, 7)
    with opened(storage) as slides:
        assert [look(slides, slide) for _ in range(3)] == [(7, 7, 7)] * 3
        assert len(storage.paths) == 1


def test_another_state_of_the_same_object_is_another_slide(storage: SlowStorage) -> None:
    first = stored(storage, 7)
    with opened(storage) as slides:
        assert look(slides, first) == (7, 7, 7)
        pixels = tissue(64, 64)
        pixels[:] = 8
        ref = storage.put("studies", first.key, tiff([Image(pixels, 64)]).data)
        assert look(slides, StoredSlide(ref.bucket, ref.key, ref.size, ref.sha256 or "")) == (8, 8, 8)


def test_the_least_lately_used_is_closed_first(storage: SlowStorage) -> None:
    first, second, third, fourth = (stored(storage, number) for number in range(4))
    with opened(storage) as slides:
        for slide in (first, second, third, first, fourth):
            look(slides, slide)
        assert (len(slides), storage.held) == (3, 3)
        look(slides, first)
        assert len(storage.paths) == 4  # not opened again
        look(slides, second)
        assert len(storage.paths) == 5


def test_copies_take_no_more_room_than_allowed(storage: SlowStorage) -> None:
    several = [stored(storage, number) for number in range(3)]
    with opened(storage, most_bytes=2 * several[0].size) as slides:
        for slide in several:
            look(slides, slide)
        assert (len(slides), storage.held) == (2, 2)


def test_a_slide_in_use_is_not_closed(storage: SlowStorage) -> None:
    several = [stored(storage, number) for number in range(3)]
    with opened(storage, most_slides=1, most_bytes=0) as slides, slides.use(several[0]) as zoom:
        for slide in several[1:]:
            look(slides, slide)
        assert zoom.tile(6, 0, 0).getpixel((5, 5)) == (0, 0, 0)
        assert len(slides) == 2


def test_what_nobody_looks_at_is_closed_and_its_copy_deleted(storage: SlowStorage) -> None:
    now = [0.0]
    first, second = stored(storage, 1), stored(storage, 2)
    with opened(storage, clock=lambda: now[0]) as slides:
        look(slides, first)
        now[0] = 500
        look(slides, second)
        now[0] = 700
        assert slides.close_idle(600) == 1
        assert storage.held == 1
        assert look(slides, first) == (1, 1, 1)


def test_who_waits_too_long_for_a_slide_is_told_to_come_again(storage: SlowStorage) -> None:
    slide = stored(storage, 9)
    with opened(storage, patience=0.05) as slides:
        storage.ready.clear()
        with pytest.raises(Unavailable, match="being fetched") as caught:
            look(slides, slide)
        assert caught.value.headers == {"Retry-After": "5"}
        storage.ready.set()
        deadline = time.monotonic() + 10
        while storage.held == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        slides.patience = 10
        assert look(slides, slide) == (9, 9, 9)
        assert len(storage.paths) == 1  # what was begun for the first was there for the second


def test_an_object_that_is_not_there_is_asked_for_again(storage: SlowStorage) -> None:
    slide = stored(storage, 5)
    storage.delete("studies", slide.key)
    with opened(storage) as slides:
        with pytest.raises(NotFound):
            look(slides, slide)
        assert look(slides, stored(storage, 5)) == (5, 5, 5)


def test_a_slide_that_breaks_while_it_is_read_is_closed(storage: SlowStorage) -> None:
    data = samples.aperio().data.replace(b"\xff\xd8\xff", b"\x00\x00\x00")
    ref = storage.put("studies", "broken", data)
    with opened(storage) as slides:
        for _ in range(2):
            with (
                pytest.raises(BrokenSlide),
                slides.use(StoredSlide("studies", "broken", ref.size, "x")) as zoom,
            ):
                zoom.tile(8, 0, 0)
            assert (len(slides), storage.held) == (0, 0)


def test_many_threads_and_few_places(storage: SlowStorage) -> None:
    """Slides are opened and closed under each other's hands; everybody gets the pixels they asked for.

    More slides than threads: some are idle whenever another is wanted, so they are closed and fetched again.
    """
    several = [stored(storage, number) for number in range(24)]
    numbers = Random(3).choices(range(24), k=400)
    with opened(storage, most_slides=2) as slides, ThreadPoolExecutor(16) as pool:
        seen = list(pool.map(lambda number: look(slides, several[number]), numbers))
    assert seen == [(number,) * 3 for number in numbers]
    assert len(storage.paths) > 24
