"""PNG, JPEG and TIFF pictures in, from strangers: sizes checked before a decoder runs, pixels and nothing else out.

EXIF, comments, colour profiles and text chunks are not carried on (they may name the patient or the place); only
the EXIF orientation is used, to turn the pixels upright.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import Invalid, TooLarge, UnsupportedImage
from shared.formats.pictures import JPEG_MAGIC, PNG_MAGIC, Picture, checked, jpeg_header, png_header
from shared.formats.source import FileSource
from shared.formats.tiff import is_tiff, read_pages
from shared.imaging.nifti_header import TruncatedImage

DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    AttributeError,
    struct.error,
    zlib.error,
)
"""What Pillow raises for damaged files, found by fuzzing; it documents OSError and SyntaxError only."""

_ORIENTATION = 274
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY16 = ("I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True, eq=False)
class Raster:
    """One picture. pixels: (height, width) or (height, width, 3), uint8, or uint16 where grey of over 8 bits."""

    pixels: NDArray[np.generic]

    @property
    def grey(self) -> NDArray[np.generic]:
        """(height, width): as stored if grey or if the three channels are equal, else the luminance, uint8."""
        if self.pixels.ndim == 2:
            return self.pixels
        red, green, blue = (self.pixels[..., i] for i in range(3))
        if np.array_equal(red, green) and np.array_equal(green, blue):
            return red
        return np.asarray(Image.fromarray(self.pixels).convert("L"))


def read_raster(path: Path, max_pixels: int | None = None) -> Raster:
    """The picture in the PNG, JPEG or single-page TIFF at `path`, upright.

    Raises UnsupportedImage, Invalid or TooLarge. max_pixels can only lower the limit of `shared.formats.pictures`.
    """
    picture, decoder = _promised(path)
    if max_pixels is not None and picture.width * picture.height > max_pixels:
        raise TooLarge(
            f"The picture has {picture.width:,} × {picture.height:,} pixels; the limit is {max_pixels:,}."
        )
    return Raster(decoded(path, decoder, (picture.width, picture.height)))


def decoded(file: Path, decoder: str, size: tuple[int, int]) -> NDArray[np.generic]:
    """Pixels of the picture in `file`, which must be of `size` (width, height) as its own header was read to say."""
    try:
        # A stream, not the path: Pillow maps uncompressed files of a path, and then turns TIFFs wrongly.
        with file.open("rb") as stream, Image.open(stream, formats=[decoder]) as image:
            if image.size != size:
                raise Invalid(f"The {decoder} file's headers contradict each other about its size.")
            image.load()
            turn = _TURNS.get(_orientation(image))
            return _pixels(image if turn is None else image.transpose(turn))
    except MemoryError as error:
        raise TooLarge("The picture needs more memory to decode than there is.") from error
    except DECODER_ERRORS as error:
        raise TruncatedImage(f"The {decoder} file is damaged or cut short and cannot be decoded.") from error


def _promised(path: Path) -> tuple[Picture, str]:
    """What the file's header says, checked, and the decoder for it."""
    with path.open("rb") as file:
        source = FileSource(file, path)
        head = source.read(0, 8)
        if head == PNG_MAGIC:
            return png_header(source), "PNG"
        if head.startswith(JPEG_MAGIC):
            return jpeg_header(source), "JPEG"
        if not is_tiff(head):
            raise UnsupportedImage("The file is no PNG, JPEG or TIFF picture; save it as one of these.")
        pages = read_pages(source)
    first = pages[0]
    if len(pages) > 1:
        raise UnsupportedImage(f"The TIFF holds {len(pages)} images; send one picture per file.")
    if first.sample_format == 3 or first.bits > 16:
        raise UnsupportedImage("The TIFF's samples are floats or over 16 bits; save it with 8 or 16 bits.")
    picture = checked(Picture(first.width, first.height, first.bits), "TIFF")
    turned = first.orientation in (5, 6, 7, 8)  # Pillow turns TIFFs itself, and says the turned size
    return (Picture(picture.height, picture.width, picture.bits) if turned else picture), "TIFF"


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except DECODER_ERRORS:  # a damaged EXIF block does not make the pixels wrong
        return 1
    return value if isinstance(value, int) else 1


def _pixels(image: Image.Image) -> NDArray[np.generic]:
    if image.mode in _GREY16 or image.mode == "I":
        return _sixteen_bits(np.asarray(image))
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))
    if image.mode == "F":
        raise UnsupportedImage("The picture's samples are floats; save it with 8 or 16 bits.")
    return np.asarray(image.convert("RGB"))


def _sixteen_bits(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    if pixels.size and not (int(pixels.min()) >= 0 and int(pixels.max()) < 2**16):
        raise UnsupportedImage("The picture's samples are of over 16 bits; save it with 8 or 16 bits.")
    return pixels.astype(np.uint16)
