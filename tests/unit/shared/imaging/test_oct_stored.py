"""How OCT scans are kept: what was written is read again, and other programs read it too."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.errors import Invalid
from shared.imaging.oct.stored import DEVICES, read_bscans, suffix_of, write_bscans
from shared.imaging.oct.volume import OctSpacing, OctVolume

MM = st.floats(1e-4, 2.0)
SPACINGS = st.none() | st.builds(OctSpacing, MM, MM, st.none() | MM)


@st.composite
def volumes(draw: st.DrawFn) -> OctVolume:
    """Any scan of a few B-scans."""
    shape = tuple(draw(st.integers(1, 6)) for _ in range(3))
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bscans = random.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    note = draw(st.sampled_from(["", "The file says a pixel depth of 900 µm."]))
    eye = draw(st.sampled_from([None, "R", "L"]))
    return OctVolume(bscans, draw(SPACINGS), note, eye, draw(st.sampled_from(DEVICES)))


@given(volumes())
def test_what_was_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, volume: OctVolume) -> None:
    path = tmp_path_factory.mktemp("oct") / "scan"
    write_bscans(volume, path)
    found = read_bscans(path)
    assert np.array_equal(found.bscans, volume.bscans) and found.bscans.dtype == volume.bscans.dtype
    assert (found.spacing_mm, found.spacing_note) == (volume.spacing_mm, volume.spacing_note)
    assert (found.laterality, found.device, found.fundus) == (volume.laterality, volume.device, None)


def scan(count: int, **fields: object) -> OctVolume:
    bscans = np.arange(count * 5 * 7, dtype=np.uint16).reshape(count, 5, 7)
    values = {"spacing_mm": OctSpacing(0.004, 0.011, 0.25), "spacing_note": "", "laterality": "L"}
    return OctVolume(bscans, **{**values, "device": "Topcon", **fields})  # type: ignore[arg-type]


def test_one_b_scan_is_a_png_that_any_viewer_shows(tmp_path: Path) -> None:
    write_bscans(scan(1), tmp_path / "scan.png")
    assert suffix_of(scan(1)) == ".png"
    with Image.open(tmp_path / "scan.png") as image:
        assert np.array_equal(np.asarray(image), scan(1).bscans[0])
        assert not image.getexif()


def test_several_are_a_nifti_with_the_axes_width_depth_and_scan(tmp_path: Path) -> None:
    write_bscans(scan(3), tmp_path / "scan.nii.gz")
    assert suffix_of(scan(3)) == ".nii.gz"
    image = nibabel.load(tmp_path / "scan.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj), scan(3).bscans.transpose(2, 1, 0))
    assert np.allclose(image.header.get_zooms(), (0.011, 0.004, 0.25))
    assert image.header.get_xyzt_units()[0] == "mm"


def test_without_a_scale_the_units_are_unknown(tmp_path: Path) -> None:
    write_bscans(scan(3, spacing_mm=None), tmp_path / "scan.nii.gz")
    assert nibabel.load(tmp_path / "scan.nii.gz").header.get_xyzt_units()[0] == "unknown"


def test_a_device_is_named_only_in_words_of_ours(tmp_path: Path) -> None:
    write_bscans(scan(1, device="Quibbleworth's"), tmp_path / "scan.png")
    assert read_bscans(tmp_path / "scan.png").device == "unknown"
    assert b"Quibbleworth" not in (tmp_path / "scan.png").read_bytes()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kept", [0, 20, 60, 0.5])
def test_what_is_cut_off_is_refused(tmp_path: Path, count: int, kept: float) -> None:
    path = tmp_path / "scan"
    write_bscans(scan(count), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with pytest.raises(Invalid, match=r"stored OCT scan|cut off"):
        read_bscans(path)
