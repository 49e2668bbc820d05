"""Slides: what OpenSlide says, checked, without names, labels and macro images."""

from pathlib import Path

import pytest

from shared.errors import HounsfieldError, Invalid, UnsupportedImage
from shared.imaging.slide import BrokenSlide, describe_slide, open_slide, plausible_mpp
from tests.unit.shared.formats import samples
from tests.unit.shared.formats.test_identify import written


def test_a_slide_is_described(tmp_path: Path) -> None:
    info = describe_slide(written(tmp_path, samples.slide()))
    assert (info.vendor, info.width, info.height, info.mpp, info.objective) == (
        "aperio",
        256,
        192,
        (0.5, 0.5),
        20,
    )
    assert [(level.width, level.height) for level in info.levels] == [(256, 192), (128, 96)]
    assert info.levels[1].downsample == pytest.approx(2)


def test_no_vendor_property_is_carried_on(tmp_path: Path) -> None:
    path = written(tmp_path, samples.slide())
    with open_slide(path) as slide:
        assert any(samples.SECRET.decode() in value for value in slide.properties.values())  # it is there
    info = describe_slide(path)
    assert samples.SECRET.decode() not in repr(info)
    assert all(name.startswith("openslide.") for name in info.properties)


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (None, None, "does not say its scale"),
        ("0.5", None, "does not say its scale"),
        ("nan", "0.5", "no positive number"),
        ("-1", "0.5", "no positive number"),
        ("half", "0.5", "no positive number"),
        ("0.0001", "0.0001", "are plausible"),
        ("352", "352", "are plausible"),
        ("0.25", "0.5", "pixels are square"),
    ],
)
def test_an_implausible_scale_is_none_with_a_reason(x: str | None, y: str | None, says: str) -> None:
    mpp, note = plausible_mpp(x, y)
    assert mpp is None
    assert says in note


def test_a_plausible_scale_is_kept() -> None:
    assert plausible_mpp("0.2525", "0.2521") == ((0.2525, 0.2521), "")


def test_a_slide_without_scale_is_described_without_it(tmp_path: Path) -> None:
    info = describe_slide(written(tmp_path, samples.slide(description="Aperio Image Library v12.0\n256x192")))
    assert info.mpp is None
    assert "does not say" in info.mpp_note


def test_what_is_no_slide_is_refused(tmp_path: Path) -> None:
    for content in (samples.tiff(), samples.nifti(), b"x" * 1000):
        with pytest.raises(UnsupportedImage):
            describe_slide(written(tmp_path, content))


def test_a_slide_with_a_damaged_header_is_refused(tmp_path: Path) -> None:
    for content in (b"ZISRAWFILE" + bytes(600), b"SQLite format 3\x00" + bytes(600)):
        with pytest.raises(HounsfieldError):
            describe_slide(written(tmp_path, content))


def test_a_slide_whose_tiles_cannot_be_decoded_is_refused(tmp_path: Path) -> None:
    """OpenSlide opens it: only reading pixels shows the damage."""
    import numpy as np

    content = samples.tiff(
        np.zeros((64, 64, 3), dtype=np.uint8), tile=(16, 16), compression="zlib", photometric="rgb"
    )
    at = content.index(b"\x78\x9c") if b"\x78\x9c" in content else content.index(b"\x78")
    with pytest.raises(BrokenSlide, match="cannot be decoded"):
        describe_slide(written(tmp_path, content[:at] + b"\xff" * 400 + content[at + 400 :]))


def test_a_slide_cut_short_is_refused(tmp_path: Path) -> None:
    content = samples.slide()
    with pytest.raises((Invalid, UnsupportedImage)):
        describe_slide(written(tmp_path, content[: len(content) // 2]))
