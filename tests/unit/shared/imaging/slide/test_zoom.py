"""Tiles and thumbnails of slides that have no small levels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from openslide import OpenSlide
from PIL import Image as Picture

from shared.imaging.slide import zoom
from shared.imaging.slide.zoom import UnseenSlide, Zoom
from tests.unit.shared.imaging.slide.samples import SUBSAMPLED, Image, tiff

WIDTH, HEIGHT = 1550, 1025


def gradient(height: int, width: int) -> NDArray[np.uint8]:
    """(H, W, 3), as smooth as can be."""
    y, x = np.mgrid[:height, :width]
    x, y = (x + 0.5) / width, (y + 0.5) / height
    bands = [255 * x, 255 * y, 255 * (x + y) / 2]
    return np.stack(bands, axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSlide]:
    """One level."""
    path = tmp_path_factory.mktemp("zoom") / "slide"
    path.write_bytes(tiff([Image(gradient(HEIGHT, WIDTH), 256, SUBSAMPLED, jpeg=True)]).data)
    with OpenSlide(path) as opened:
        yield opened


@pytest.fixture(autouse=True)
def little_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small slide is read in pieces, as large ones are."""
    monkeypatch.setattr(zoom, "WHOLE", 2**18)
    monkeypatch.setattr(zoom, "EDGE", 256)


def difference(picture: Picture.Image) -> float:
    """From what the gradient is at that size; mean of all colours, of 255."""
    expected = gradient(picture.height, picture.width).astype(float)
    return float(np.abs(np.asarray(picture, dtype=float) - expected).mean())


@pytest.mark.parametrize("level", range(10))
def test_small_tiles_of_a_slide_without_small_levels_are_right(level: int, slide: OpenSlide) -> None:
    assert WIDTH * HEIGHT > zoom.WHOLE
    tile = Zoom(slide).tile(level, 0, 0)
    assert tile.size == (-(-WIDTH // 2 ** (11 - level)), -(-HEIGHT // 2 ** (11 - level)))
    assert difference(tile) < (3 if level > 1 else 10)  # the last pieces are narrower, and count as much


@pytest.mark.parametrize("width", [16, 256, 1024])
def test_thumbnails_are_right(width: int, slide: OpenSlide) -> None:
    thumbnail = Zoom(slide).thumbnail(width)
    assert thumbnail.size == (width, round(HEIGHT * width / WIDTH))
    assert difference(thumbnail) < 4


def test_a_thumbnail_is_never_larger_than_the_slide(tmp_path: Path) -> None:
    (tmp_path / "slide").write_bytes(tiff([Image(gradient(40, 60), 64)]).data)
    with OpenSlide(tmp_path / "slide") as small:
        assert Zoom(small).thumbnail(1024).size == (60, 40)


def test_a_very_tall_slide_has_a_thumbnail_of_bounded_height(tmp_path: Path) -> None:
    (tmp_path / "slide").write_bytes(tiff([Image(gradient(3000, 20), 64)]).data)
    with OpenSlide(tmp_path / "slide") as tall:
        assert Zoom(tall).thumbnail(16).size == (1, 64)


def test_what_would_take_minutes_is_refused(slide: OpenSlide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoom, "MOST", 10**6)
    with pytest.raises(UnseenSlide, match="zoom in"):
        Zoom(slide).tile(3, 0, 0)
    assert Zoom(slide).tile(11, 0, 0).size == (512, 512)
