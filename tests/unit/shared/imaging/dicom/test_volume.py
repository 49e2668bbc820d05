from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from shared.imaging.dicom import convert, volume
from shared.imaging.dicom.agreement import Disagreement, as_planes, index_step
from shared.imaging.dicom.errors import DamagedDicom, UnsupportedDicom, UnusableSeries
from shared.imaging.dicom.series import group_series
from shared.imaging.dicom.volume import build_nifti, build_volume
from shared.imaging.nifti import write_nifti
from shared.imaging.nifti_header import Limits, TooManyVoxels
from shared.imaging.volume import Volume
from tests.unit.shared.imaging.dicom.builders import (
    AXIAL,
    COLUMNS,
    CORONAL,
    ENHANCED_MR,
    ROWS,
    SAGITTAL,
    make_enhanced,
    make_image,
    normal_of,
    only_series,
    pixels_of,
    read_all,
    save,
    write_stack,
)

Vector = NDArray[np.float64]


def value_at(made: Volume, lps: Vector) -> float:
    """The voxel at a point of the patient (LPS mm), which must be a voxel's centre."""
    index = np.linalg.inv(made.affine) @ np.array([-lps[0], -lps[1], lps[2], 1.0])
    near = np.round(index[:3]).astype(int)
    assert np.abs(index[:3] - near).max() < 1e-3
    return float(made.data[tuple(near)])


def assert_says_what_the_headers_say(
    made: Volume,
    positions: Sequence[Vector],
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (0.75, 0.5),
    offset: float = -1024,
) -> None:
    """Every corner and an inner voxel of every plane k of a `write_stack` holds `pixels_of(k)`."""
    assert made.data.size == len(positions) * ROWS * COLUMNS
    for k, position in enumerate(positions):
        for row, column in ((0, 0), (0, COLUMNS - 1), (ROWS - 1, 0), (ROWS - 1, COLUMNS - 1), (2, 5)):
            place = (
                position
                + np.array(orientation[:3]) * spacing[1] * column
                + np.array(orientation[3:]) * spacing[0] * row
            )
            assert value_at(made, place) == pixels_of(k)[row, column] + offset


def positions_of(
    heights: Sequence[float],
    direction: Sequence[float] = (0, 0, 1),
    origin: Sequence[float] = (-10, -20, 30),
) -> list[Vector]:
    return [np.array(origin) + height * np.array(direction) for height in heights]


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, (-1, 0, 0, 0, -1, 0), (0, 1, 0, 1, 0, 0)])
@pytest.mark.parametrize("order", [range(5), [4, 3, 2, 1, 0], [3, 0, 4, 1, 2]])
def test_voxels_lie_where_the_headers_put_them(
    tmp_path: Path, orientation: Sequence[float], order: Sequence[int]
) -> None:
    write_stack(tmp_path, 5, orientation=orientation, order=order)
    made = build_volume(only_series(tmp_path))
    assert made.data.dtype == np.int16
    places = positions_of([2.0 * k for k in range(5)], normal_of(orientation))
    assert_says_what_the_headers_say(made, places, orientation)


@st.composite
def stacks(draw: st.DrawFn) -> dict[str, Any]:
    """A stack of any direction, spacing, place, number and order of planes."""
    turn = np.array(draw(st.lists(st.floats(-1, 1), min_size=4, max_size=4)))
    turn = np.array([1.0, 0, 0, 0]) if np.linalg.norm(turn) < 0.1 else turn / np.linalg.norm(turn)
    w, x, y, z = turn
    row = (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y))
    column = (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x))
    # Exactly between two axes dcm2niix may take the planes' direction for another; such a series is refused.
    _, middle, most = np.sort(np.abs(normal_of((*row, *column))))
    assume(most - middle > 1e-6)
    count = draw(st.integers(1, 6))
    step = draw(st.floats(0.5, 8))
    return {
        "orientation": (*row, *column),
        "spacing": (draw(st.floats(0.3, 3)), draw(st.floats(0.3, 3))),
        "heights": [step * k for k in range(count)],
        "origin": tuple(draw(st.floats(-300, 300)) for _ in range(3)),
        "order": draw(st.permutations(range(count))),
        "SliceThickness": round(step, 3),
    }


@settings(max_examples=40)
@given(stack=stacks())
def test_any_stack_lies_where_its_headers_put_it(stack: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        write_stack(Path(folder), **stack)
        made = build_volume(only_series(Path(folder)))
    places = positions_of(stack["heights"], normal_of(stack["orientation"]), stack["origin"])
    assert_says_what_the_headers_say(made, places, stack["orientation"], stack["spacing"])


@pytest.mark.parametrize("degrees", [18.5, -25.0])
@pytest.mark.parametrize("stated", [True, False])
def test_a_tilted_gantry_shears_the_affine_and_moves_no_voxel(
    tmp_path: Path, degrees: float, stated: bool
) -> None:
    angle = np.radians(degrees)
    tilted = (1, 0, 0, 0, float(np.cos(angle)), float(np.sin(angle)))
    tilt = {"GantryDetectorTilt": degrees} if stated else {}
    write_stack(tmp_path, 6, orientation=tilted, direction=(0, 0, 1), **tilt)
    made = build_volume(only_series(tmp_path))
    assert_says_what_the_headers_say(made, positions_of([2.0 * k for k in range(6)]), tilted)
    assert made.voxel_ml == pytest.approx(0.75 * 0.5 * 2 * np.cos(angle) / 1000)


def test_a_tilt_too_small_to_be_one_is_in_the_affine(tmp_path: Path) -> None:
    direction = (0.0, float(np.sin(np.radians(0.05))), float(np.cos(np.radians(0.05))))
    write_stack(tmp_path, 12, direction=direction)
    series = only_series(tmp_path)
    assert series.issues == ()
    places = positions_of([2.0 * k for k in range(12)], direction)
    assert_says_what_the_headers_say(build_volume(series), places)


def test_uneven_planes_are_interpolated_at_the_least_distance(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", heights=[0, 2, 4, 6], SliceThickness=2)
    for k, height in ((4, 10), (5, 14), (6, 18)):
        write_stack(tmp_path / str(k), heights=[height], SliceThickness=4, PixelData=pixels_of(k).tobytes())
    made = build_volume(only_series(tmp_path))
    assert made.shape[2] == 10 and made.spacing[2] == pytest.approx(2)
    for height, plane in ((0, 0), (2, 1), (6, 3), (8, 3.5), (10, 4), (12, 4.5), (18, 6)):
        here = positions_of([height])[0] + np.array([0.5 * 3, 0.75 * 2, 0])
        assert value_at(made, here) == 1000 + 100 * plane + 10 * 2 + 3 - 1024


def test_uneven_planes_of_a_tilted_gantry_stay_where_they_were(tmp_path: Path) -> None:
    angle = np.radians(18.5)
    tilted = (1, 0, 0, 0, float(np.cos(angle)), float(np.sin(angle)))
    heights = [0.0, 2, 4, 6, 10, 14, 18]
    stack = {"orientation": tilted, "direction": (0, 0, 1), "GantryDetectorTilt": 18.5}
    write_stack(tmp_path, heights=heights, SliceThickness=4, **stack)
    series = only_series(tmp_path)
    assert {issue.code for issue in series.issues} == {"gantry-tilt", "varying-spacing"}
    made = build_volume(series)
    for k, place in enumerate(positions_of(heights)):
        at = place + 3 * 0.5 * np.array(tilted[:3]) + 2 * 0.75 * np.array(tilted[3:])
        assert value_at(made, at) == pixels_of(k)[2, 3] - 1024


def test_refusals_of_the_series_are_refusals_here(tmp_path: Path) -> None:
    write_stack(tmp_path, heights=[0, 2, 4, 8, 10])
    with pytest.raises(UnusableSeries, match="Planes are missing") as refused:
        build_volume(only_series(tmp_path))
    assert [issue["code"] for issue in refused.value.extensions["issues"]] == ["gap"]


def test_a_single_plane_is_a_volume_as_thick_as_its_header_says(tmp_path: Path) -> None:
    write_stack(tmp_path, 1, SliceThickness=4)
    made = build_volume(only_series(tmp_path))
    assert made.shape[2] == 1 and made.spacing[2] == 4
    assert_says_what_the_headers_say(made, positions_of([0]))


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_uncompressed_encoding_gives_the_same(tmp_path: Path, syntax: Any) -> None:
    for k in range(4):
        image = make_image(ImagePositionPatient=[-10, -20, 30 + 2 * k], InstanceNumber=k + 1)
        image.PixelData = pixels_of(k).astype(">i2" if syntax == ExplicitVRBigEndian else "<i2").tobytes()
        image.file_meta.TransferSyntaxUID = syntax
        save(image, tmp_path / str(k))
    assert_says_what_the_headers_say(build_volume(only_series(tmp_path)), positions_of([0, 2, 4, 6]))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_every_lossless_compression_gives_the_same(tmp_path: Path, syntax: Any) -> None:
    for k in range(3):
        image = make_image(ImagePositionPatient=[-10, -20, 30 + 2 * k], PixelData=pixels_of(k).tobytes())
        image.compress(syntax, generate_instance_uid=False)
        save(image, tmp_path / str(k))
    assert_says_what_the_headers_say(build_volume(only_series(tmp_path)), positions_of([0, 2, 4]))


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL])
def test_an_enhanced_file_in_any_order_of_frames_gives_the_same(
    tmp_path: Path, orientation: Sequence[float]
) -> None:
    heights = [4.0, 0.0, 6.0, 2.0]
    places = positions_of(heights, normal_of(orientation))
    save(make_enhanced([list(p) for p in places], orientation=orientation), tmp_path / "a")
    assert_says_what_the_headers_say(build_volume(only_series(tmp_path)), places, orientation)


def test_a_compressed_enhanced_mr_gives_the_same(tmp_path: Path) -> None:
    places = positions_of([0, 2, 4, 6])
    image = make_enhanced([list(p) for p in places], Modality="MR")
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = ENHANCED_MR
    image.compress(JPEGLSLossless, generate_instance_uid=False)
    save(image, tmp_path / "a")
    assert_says_what_the_headers_say(build_volume(only_series(tmp_path)), places)


def test_unsigned_values_and_fractional_slopes_are_rescaled(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", 3, PixelRepresentation=0, RescaleIntercept=-1000, SeriesInstanceUID="1.2.1")
    write_stack(tmp_path / "b", 3, RescaleSlope="0.25", RescaleIntercept="0.5", SeriesInstanceUID="1.2.2")
    write_stack(tmp_path / "c", 3, PixelRepresentation=0, RescaleIntercept=40000, SeriesInstanceUID="1.2.3")
    unsigned, scaled, large = (build_volume(series) for series in group_series(read_all(tmp_path)))
    assert unsigned.data.dtype == np.int16 and unsigned.data.min() == 0
    assert scaled.data.dtype == np.float32 and scaled.data.min() == 250.5
    assert large.data.dtype == np.float32 and large.data.min() == 41000


def test_eight_bit_pixels_are_read(tmp_path: Path) -> None:
    plane = np.arange(ROWS * COLUMNS, dtype=np.uint8)
    eight = {
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "RescaleIntercept": -5,
    }
    for k in range(3):
        image = make_image(ImagePositionPatient=[0, 0, 2 * k], PixelData=None, **eight)
        image.PixelData = (plane + k).tobytes()
        image["PixelData"].VR = "OB"
        save(image, tmp_path / str(k))
    made = build_volume(only_series(tmp_path))
    assert made.data.dtype == np.int16
    assert value_at(made, np.array([0.5, 0.75, 4.0])) == 1 + COLUMNS + 2 - 5


@pytest.mark.parametrize(
    ("allocated", "stored", "signed", "above", "offset"),
    [
        (16, 12, 1, 0, -1500),
        (16, 12, 1, 0xF000, 0),
        (16, 12, 0, 0xF000, 0),
        (8, 7, 1, 0, -60),
        (8, 8, 1, 0, -60),
    ],
)
def test_bits_above_those_stored_are_no_part_of_a_value(
    tmp_path: Path, allocated: int, stored: int, signed: int, above: int, offset: int
) -> None:
    plane = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) + offset
    kept = (plane & (2**stored - 1) | above).astype(f"u{allocated // 8}")
    write_stack(
        tmp_path,
        5,
        BitsAllocated=allocated,
        BitsStored=stored,
        HighBit=stored - 1,
        PixelRepresentation=signed,
        PixelData=kept.tobytes(),
        RescaleIntercept=0,
    )
    made = build_volume(only_series(tmp_path))
    assert value_at(made, positions_of([6.0])[0]) == plane[0, 0]
    assert sorted(made.data[:, :, 1].ravel()) == sorted(plane.ravel())


def test_a_plane_that_is_stored_in_another_way_is_never_misread(tmp_path: Path) -> None:
    write_stack(tmp_path, 7)
    bright = np.full((ROWS, COLUMNS), 1000, np.uint16)
    bright[0, 0] = 40000
    place = {"ImagePositionPatient": [-10, -20, 32], "InstanceNumber": 2}
    save(make_image(PixelRepresentation=0, PixelData=bright.tobytes(), **place), tmp_path / "001.dcm")
    with pytest.raises(Disagreement, match="65536 in one plane"):
        build_volume(only_series(tmp_path))


@pytest.mark.parametrize(("modality", "expected"), [("CT", 1000 - 1024), ("MR", 4095 - 1000 - 1024)])
def test_monochrome1_is_inverted_in_mr_and_never_in_ct(tmp_path: Path, modality: str, expected: int) -> None:
    stored = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}
    write_stack(tmp_path, 3, Modality=modality, PhotometricInterpretation="MONOCHROME1", **stored)
    assert value_at(build_volume(only_series(tmp_path)), positions_of([0])[0]) == expected


def test_a_transfer_syntax_without_decoder_is_refused_by_name(tmp_path: Path) -> None:
    (path, *_) = write_stack(tmp_path, 1)
    content = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.8\0")
    pixels = content.index(b"\xe0\x7f\x10\x00OW")
    path.write_bytes(
        content[:pixels]
        + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x02\0\0\0ab"
        + b"\xfe\xff\xdd\xe0\0\0\0\0"
    )
    with pytest.raises(UnsupportedDicom, match=r"transfer syntax 1\.2\.840\.10008\.1\.2\.8, for which"):
        build_volume(only_series(tmp_path))


def test_damaged_compressed_pixels_are_refused(tmp_path: Path) -> None:
    for k in range(2):
        image = make_image(ImagePositionPatient=[0, 0, 2 * k])
        image.compress(JPEGLSLossless, generate_instance_uid=False)
        content = bytearray(save(image, tmp_path / str(k)).read_bytes())
        at = content.index(b"\xff\xd8\xff")
        content[at + 4 : at + 20] = bytes(16)
        (tmp_path / str(k)).write_bytes(content)
    with pytest.raises(DamagedDicom, match="cannot be decoded"):
        build_volume(only_series(tmp_path))


def test_a_compressed_plane_larger_than_its_header_says_is_refused(tmp_path: Path) -> None:
    large = make_image(Rows=600, Columns=600, PixelData=bytes(600 * 600 * 2))
    large.compress(JPEGLSLossless, generate_instance_uid=False)
    large.Rows, large.Columns = ROWS, COLUMNS
    save(large, tmp_path / "a")
    with pytest.raises(DamagedDicom, match="larger than their headers say"):
        build_volume(only_series(tmp_path))


def test_pixels_over_the_limit_are_refused_before_a_file_is_opened(tmp_path: Path) -> None:
    write_stack(tmp_path, 4)
    series = only_series(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(TooManyVoxels, match="8 × 6 × 4 voxels"):
        build_volume(series, limits=Limits(max_bytes=300))


def test_a_few_bytes_that_promise_gigabytes_are_refused(tmp_path: Path) -> None:
    image = make_image()
    image.compress(RLELossless, generate_instance_uid=False)
    image.Rows = image.Columns = 30000
    save(image, tmp_path / "a")
    with pytest.raises(TooManyVoxels, match="promise"):
        build_volume(only_series(tmp_path))


def test_a_volume_that_contradicts_its_headers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dcm2niix is made to see other planes than those whose headers were read."""
    write_stack(tmp_path / "theirs", 5, spacing=(0.75, 0.6))
    write_stack(tmp_path / "ours", 5)
    theirs = only_series(tmp_path / "theirs").slices
    link, write = convert.link_planes, convert.write_planes
    monkeypatch.setattr(volume.convert, "link_planes", lambda planes, folder: link(theirs, folder))
    monkeypatch.setattr(volume.convert, "write_planes", lambda planes, folder: write(theirs, folder))
    with pytest.raises(Disagreement, match=r"its affine .*0\.6000.*theirs .*0\.5000"):
        build_volume(only_series(tmp_path / "ours"))


def test_a_volume_of_another_shape_is_refused_naming_both() -> None:
    with pytest.raises(Disagreement, match=r"has 8 × 6 × 4 voxels; the headers describe 8 × 6 × 5"):
        index_step(np.diag([0.5, 0.75, 2, 1]), (8, 6, 4), np.diag([0.5, 0.75, 2, 1]), (8, 6, 5))


def test_a_reordering_and_flips_are_found() -> None:
    expected = np.array([[0.5, 0, 0, 3], [0, 0.75, 0, 5], [0, 0, 2.0, 7], [0, 0, 0, 1]])
    step = np.array([[0, 0, 1.0, 0], [-1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 0, 1]])
    found = index_step(expected @ step, (6, 4, 8), expected, (8, 6, 4))
    assert np.array_equal(found, step)
    voxels = np.arange(6 * 4 * 8).reshape(6, 4, 8)
    assert as_planes(voxels, found)[1, 2, 3] == voxels[5 - 2, 3, 1]


def test_planes_that_dcm2niix_leaves_out_are_stacked_from_plain_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stack(tmp_path, 5)
    link = convert.link_planes
    monkeypatch.setattr(volume.convert, "link_planes", lambda planes, folder: link(planes[:4], folder))
    made = build_volume(only_series(tmp_path))
    assert_says_what_the_headers_say(made, positions_of([2.0 * k for k in range(5)]))


def test_exchanged_planes_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stack(tmp_path / "theirs", 5, PixelData=pixels_of(9).tobytes())
    write_stack(tmp_path / "ours", 5)
    theirs = only_series(tmp_path / "theirs").slices
    link = convert.link_planes
    monkeypatch.setattr(volume.convert, "link_planes", lambda planes, folder: link(theirs, folder))
    made = build_volume(only_series(tmp_path / "ours"))  # made again from the planes themselves
    assert_says_what_the_headers_say(made, positions_of([2.0 * k for k in range(5)]))


def test_two_exchanged_planes_among_many_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heights = [2.0 * k for k in range(9)]
    for k, plane in enumerate((0, 1, 3, 2, 4, 5, 6, 7, 8)):
        write_stack(tmp_path / "theirs" / str(k), heights=[heights[k]], PixelData=pixels_of(plane).tobytes())
    write_stack(tmp_path / "ours", 9)
    theirs = only_series(tmp_path / "theirs").slices
    link = convert.link_planes
    monkeypatch.setattr(volume.convert, "link_planes", lambda planes, folder: link(theirs, folder))
    made = build_volume(only_series(tmp_path / "ours"))  # made again from the planes themselves
    assert_says_what_the_headers_say(made, positions_of(heights))


@pytest.mark.parametrize(
    ("stack", "own"),
    [
        ({"count": 3}, True),
        ({"count": 3, "RescaleSlope": 0.5}, False),
        ({"heights": [0.0, 2, 4, 6, 10, 14, 18], "SliceThickness": 4}, False),
    ],
)
def test_the_file_of_a_volume_is_the_one_that_would_be_written_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: dict[str, Any], own: bool
) -> None:
    (tmp_path / "in").mkdir()
    write_stack(tmp_path / "in", **stack)
    series = only_series(tmp_path / "in")
    (tmp_path / "work").mkdir()
    written: list[Path] = []
    monkeypatch.setattr(
        volume, "write_nifti", lambda made, path: (written.append(path), write_nifti(made, path))
    )
    build_nifti(series, tmp_path / "work" / "ct.nii")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["ct.nii"]
    assert (written == []) is own
    write_nifti(build_volume(series), tmp_path / "expected.nii")
    assert (tmp_path / "work" / "ct.nii").read_bytes() == (tmp_path / "expected.nii").read_bytes()


def test_nothing_is_left_in_the_work_folder(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    write_stack(tmp_path / "in", 3)
    build_volume(only_series(tmp_path / "in"), work)
    assert list(work.iterdir()) == []
