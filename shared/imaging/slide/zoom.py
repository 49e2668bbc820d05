"""A slide as Deep Zoom tiles and thumbnails, in bounded memory also where it has no small levels."""

from math import ceil

from openslide import OpenSlide
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image

from shared.errors import Invalid, NotFound
from shared.imaging.slide.reading import reading

TILE = 512
WHOLE = 16 * 2**20
"""Pixels that are read at once."""
EDGE = 2048
"""Of the pieces that more than that are read in, and of what they are put together to."""
MOST = 2**30
"""Pixels that are read for one tile: about ten seconds."""
TALLEST = 4
"""Most height of a thumbnail, in its widths."""


class UnseenSlide(Invalid):
    """It is whole, but to show it at this size would take too long."""

    slug, title = "slide-without-levels", "Slide without smaller levels"


class Zoom:
    """An open slide at all sizes. Thread-safe, as OpenSlide is."""

    def __init__(self, slide: OpenSlide) -> None:
        self._slide = slide
        self._deep = DeepZoomGenerator(slide, TILE, overlap=0)
        self._colour = "#" + slide.properties.get("openslide.background-color", "ffffff")

    def description(self) -> str:
        """The Deep Zoom XML."""
        return str(self._deep.get_dzi("jpg"))

    def tile(self, level: int, column: int, row: int) -> Image.Image:
        """RGB. Level 0 is the slide as one pixel. Raises NotFound for one that is not there, BrokenSlide, UnseenSlide.

        As DeepZoomGenerator's, but of exactly the size that viewers expect: its thumbnails keep their proportions.
        """
        if not 0 <= level < self._deep.level_count:
            raise NotFound(f"the slide has the levels 0 to {self._deep.level_count - 1}")
        columns, rows = self._deep.level_tiles[level]
        if not (0 <= column < columns and 0 <= row < rows):
            raise NotFound(f"level {level} of the slide has {columns} × {rows} tiles, counted from 0")
        place, source, size = self._deep.get_tile_coordinates(level, (column, row))
        with reading():
            return self._shrunk(place, source, size, self._deep.get_tile_dimensions(level, (column, row)))

    def thumbnail(self, width: int) -> Image.Image:
        """RGB, the whole slide, `width` pixels wide unless it were very tall. Raises BrokenSlide, UnseenSlide."""
        across, down = self._slide.dimensions
        scale = min(width / across, TALLEST * width / down, 1.0)
        level = self._slide.get_best_level_for_downsample(1 / scale)
        wanted = (max(1, round(across * scale)), max(1, round(down * scale)))
        with reading():
            return self._shrunk((0, 0), level, self._slide.level_dimensions[level], wanted)

    def _shrunk(
        self, place: tuple[int, int], level: int, size: tuple[int, int], wanted: tuple[int, int]
    ) -> Image.Image:
        """A region of a level, made smaller piece by piece. place: in pixels of level 0; size: in those of `level`."""
        if size[0] * size[1] > MOST:
            raise UnseenSlide("The slide has no small enough level to be shown at this size; zoom in.")
        factor, step = 1, max(size)
        if size[0] * size[1] > WHOLE:
            factor = ceil(max(size) / EDGE)
            step = EDGE // factor * factor or factor
        down = self._slide.level_downsamples[level]
        smaller = Image.new("RGB", (ceil(size[0] / factor), ceil(size[1] / factor)), self._colour)
        for top in range(0, size[1], step):
            for left in range(0, size[0], step):
                part = (min(step, size[0] - left), min(step, size[1] - top))
                at = (place[0] + int(left * down), place[1] + int(top * down))
                region = self._slide.read_region(at, level, part)
                piece = Image.new("RGB", part, self._colour)
                piece.paste(region, (0, 0), region)
                smaller.paste(piece.reduce(factor), (left // factor, top // factor))
        return smaller.resize(wanted, Image.Resampling.LANCZOS, reducing_gap=2.0)
