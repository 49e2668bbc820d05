"""Pictures: pixels as they are to be seen, and nothing else of the file."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from shared.errors import Invalid, TooLarge, UnsupportedImage
from shared.imaging.nifti_header import TruncatedImage
from shared.imaging.raster import Raster, read_raster
from tests.unit.shared.formats import samples
from tests.unit.shared.formats.test_identify import written

COLOUR = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "write", [lambda p: samples.picture("PNG", p), samples.tiff, lambda p: samples.tiff(p, byteorder=">")]
)
def test_grey_pixels_keep_their_values_and_depth(tmp_path: Path, write: object, dtype: type) -> None:
    pixels = samples.grey(dtype=dtype)
    read = read_raster(written(tmp_path, write(pixels))).pixels  # type: ignore[operator]
    assert read.dtype == dtype
    assert np.array_equal(read, pixels)


@pytest.mark.parametrize(
    "content", [samples.picture("PNG", COLOUR), samples.tiff(COLOUR), samples.tiff(COLOUR, tile=(16, 16))]
)
def test_colours_keep_their_values(tmp_path: Path, content: bytes) -> None:
    assert np.array_equal(read_raster(written(tmp_path, content)).pixels, COLOUR)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_grey_or_rgb(tmp_path: Path, mode: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).convert(mode).save(buffer, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG")
    pixels = read_raster(written(tmp_path, buffer.getvalue())).pixels
    assert pixels.shape[:2] == (40, 50)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["PNG", "JPEG", "TIFF"])
def test_pictures_are_turned_upright(tmp_path: Path, name: str, orientation: int) -> None:
    """The same turn as Pillow's own `exif_transpose`."""
    from PIL import ImageOps

    exif = Image.Exif()
    exif[274] = orientation
    pixels = np.repeat(
        np.repeat(samples.grey(5, 6) * 8, 8, axis=0), 8, axis=1
    )  # 8-pixel blocks: JPEG keeps them
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, name, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue()))))
    read = read_raster(written(tmp_path, buffer.getvalue())).pixels
    assert read.shape == expected.shape == ((48, 40) if orientation > 4 else (40, 48))
    assert np.array_equal(read, expected)


def test_no_metadata_is_carried_on(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("Patient", samples.SECRET.decode())
    raster = read_raster(written(tmp_path, samples.picture("PNG", pnginfo=info)))
    assert vars(raster).keys() == {"pixels"}
    assert type(raster.pixels) is np.ndarray


def test_a_grey_picture_saved_in_colour_is_grey_again() -> None:
    grey = samples.grey()
    assert np.array_equal(Raster(np.stack([grey] * 3, axis=-1)).grey, grey)
    assert np.array_equal(Raster(COLOUR).grey, np.asarray(Image.fromarray(COLOUR).convert("L")))


def test_the_limit_is_of_pixels(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="50 × 40 pixels; the limit is 1,999"):
        read_raster(written(tmp_path, samples.picture("PNG")), max_pixels=1999)


@pytest.mark.parametrize("name", ["png", "png, 16 bits", "jpeg", "tiff, deflated", "tiff, lzw", "tiff"])
def test_pictures_cut_short_are_refused(tmp_path: Path, name: str) -> None:
    content = samples.valid()[name]
    with pytest.raises(Invalid):
        read_raster(written(tmp_path, content[: len(content) * 2 // 3]))


def test_a_picture_whose_headers_disagree_is_refused(tmp_path: Path) -> None:
    """The frame header that was checked is not the one that is decoded."""
    small, large = samples.picture("JPEG"), samples.picture("JPEG", np.zeros((900, 900), dtype=np.uint8))
    at = small.index(b"\xff\xc0")
    frame = small[at : at + 2 + int.from_bytes(small[at + 2 : at + 4], "big")]
    with pytest.raises((Invalid, TruncatedImage)):
        read_raster(written(tmp_path, b"\xff\xd8" + frame + large[2:]))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (samples.tiff(np.zeros((3, 40, 50), dtype=np.uint8), photometric="minisblack"), "holds 3 images"),
        (samples.tiff(np.zeros((40, 50), dtype=np.float32)), "floats or over 16 bits"),
        (samples.tiff(np.zeros((40, 50), dtype=np.uint32)), "floats or over 16 bits"),
        (samples.nifti(), "no PNG, JPEG or TIFF"),
    ],
)
def test_what_is_no_single_picture_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(UnsupportedImage, match=says):
        read_raster(written(tmp_path, content))
