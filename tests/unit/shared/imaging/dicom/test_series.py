import random
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import RLELossless

from shared.errors import HounsfieldError
from shared.imaging.dicom.headers import read_header
from shared.imaging.dicom.instance import Instance
from shared.imaging.dicom.series import Series, group_series
from tests.unit.shared.imaging.dicom.builders import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    codes,
    make_enhanced,
    make_image,
    only_series,
    read_all,
    save,
    write_stack,
)


def heights_of(series: Series, axis: int = 2) -> list[float]:
    return [plane.frame.position[axis] for plane in series.slices if plane.frame.position]


def test_planes_are_ordered_by_place_not_by_name_or_number(tmp_path: Path) -> None:
    order = list(range(9))
    random.Random(4).shuffle(order)
    write_stack(tmp_path, 9, order=order)
    series = only_series(tmp_path)
    assert heights_of(series) == [30 + 2.0 * k for k in range(9)]
    assert series.issues == () and series.spacing_mm == 2


@pytest.mark.parametrize(("orientation", "axis", "sign"), [(SAGITTAL, 0, -1), (CORONAL, 1, 1)])
def test_planes_of_any_direction_are_ordered_along_their_normal(
    tmp_path: Path, orientation: tuple[float, ...], axis: int, sign: int
) -> None:
    write_stack(tmp_path, 4, orientation=orientation, order=[2, 0, 3, 1])
    places = heights_of(only_series(tmp_path), axis)
    assert places == sorted(places, reverse=sign < 0)


def test_series_of_one_study_are_kept_apart(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", 3, SeriesInstanceUID="1.2.3.4.1", SeriesNumber=3)
    write_stack(tmp_path / "b", 4, SeriesInstanceUID="1.2.3.4.2", SeriesNumber=2)
    write_stack(tmp_path / "c", 2, SeriesInstanceUID="1.2.3.4.1", StudyInstanceUID="1.2.3.5")
    found = group_series(read_all(tmp_path))
    assert [(s.study_uid, len(s.slices)) for s in found] == [("1.2.3.4", 4), ("1.2.3.4", 3), ("1.2.3.5", 2)]


def test_a_missing_plane_is_a_gap_with_both_distances(tmp_path: Path) -> None:
    write_stack(tmp_path, heights=[0, 2, 4, 8, 10])
    (issue,) = only_series(tmp_path).refusals
    assert (issue.code, issue.expected_mm, issue.actual_mm, issue.count) == ("gap", 2, 4, 1)
    assert "4.00 mm" in issue.detail and "2.00 mm" in issue.detail and "after plane 3 of 5" in issue.detail


def test_a_missing_plane_of_overlapping_ones_is_a_gap_though_no_tissue_is_missing(tmp_path: Path) -> None:
    write_stack(tmp_path, heights=[0, 1, 2, 4, 5, 6], SliceThickness=2.5)
    assert codes(only_series(tmp_path)) == ["gap"]


def test_adjoining_planes_of_two_distances_are_a_warning(tmp_path: Path) -> None:
    for part, (heights, thickness) in enumerate([((0, 2.5, 5, 7.5), 2.5), ((12.5, 17.5, 22.5), 5.0)]):
        write_stack(tmp_path / str(part), heights=heights, SliceThickness=thickness)
    series = only_series(tmp_path)
    assert codes(series) == ["varying-spacing"] and not series.refusals


@pytest.mark.parametrize(
    ("heights", "missing"),
    [
        ([0, 2, 4, 6, 8, 14, 20, 26], 0),  # planned: wide apart towards the top
        ([0, 2, 4, 7, 13, 19, 25, 31], 0),  # the same with a step between
        ([0, 2, 4, 8, 12, 14, 16], 2),  # two planes missing
        ([0, 4, 6, 8, 10], 1),  # the second
        ([0, 2, 4, 6, 10], 1),  # the last but one
        ([0, 2, 6, 8, 10, 14, 16, 18], 2),
        (
            [0, 2, 4, 8, 10, 14, 18, 22, 26, 30],
            1,
        ),  # one missing where planes are close, most being wide apart
    ],
)
def test_planned_distances_are_told_from_missing_planes(
    tmp_path: Path, heights: list[float], missing: int
) -> None:
    write_stack(tmp_path, heights=heights)
    (issue,) = only_series(tmp_path).issues
    assert (issue.code, issue.count) == (("gap", missing) if missing else ("varying-spacing", 1))


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even(tmp_path: Path) -> None:
    write_stack(tmp_path, heights=[round(0.625 * k, 1) for k in range(12)])
    assert codes(only_series(tmp_path)) == []


def test_a_file_that_came_twice_counts_once(tmp_path: Path) -> None:
    first, *_ = write_stack(tmp_path, 4)
    (tmp_path / "copy").write_bytes(first.read_bytes())
    series = only_series(tmp_path)
    assert codes(series) == ["duplicate-instance"] and len(series.slices) == 4 and not series.refusals


def test_a_copy_in_another_transfer_syntax_is_the_same_file(tmp_path: Path) -> None:
    image = make_image()
    save(image, tmp_path / "a")
    image.compress(RLELossless, generate_instance_uid=False)
    save(image, tmp_path / "b")
    assert codes(only_series(tmp_path)) == ["duplicate-instance", "single-slice"]


def test_one_uid_on_two_different_images_is_refused(tmp_path: Path) -> None:
    write_stack(tmp_path, 3, SOPInstanceUID="1.2.3.99")
    assert "conflicting-instance" in [issue.code for issue in only_series(tmp_path).refusals]


def test_two_planes_at_one_place_are_refused_when_nothing_tells_them_apart(tmp_path: Path) -> None:
    write_stack(tmp_path, heights=[0, 2, 2, 4])
    (issue,) = only_series(tmp_path).refusals
    assert (issue.code, issue.count) == ("duplicate-position", 1)


@pytest.mark.parametrize(
    "tag", ["AcquisitionNumber", "TemporalPositionIdentifier", "TriggerTime", "AcquisitionTime"]
)
def test_repeated_places_are_divided_by_what_tells_them_apart(tmp_path: Path, tag: str) -> None:
    for phase in (1, 2, 3):
        write_stack(tmp_path / str(phase), 4, **{tag: f"10000{phase}" if tag.endswith("Time") else phase})
    found = group_series(read_all(tmp_path))
    assert [(len(s.slices), s.stack, s.stacks) for s in found] == [(4, 1, 3), (4, 2, 3), (4, 3, 3)]
    assert all(codes(s) == ["several-acquisitions"] and not s.refusals for s in found)


def test_acquisitions_that_follow_one_another_in_space_stay_one_stack(tmp_path: Path) -> None:
    write_stack(tmp_path / "1", heights=[0, 2, 4], AcquisitionNumber=1)
    write_stack(tmp_path / "2", heights=[6, 8], AcquisitionNumber=2)
    assert codes(only_series(tmp_path)) == []


def test_echoes_of_one_mr_series_are_stacks_of_their_own(tmp_path: Path) -> None:
    for echo in (20, 90):
        write_stack(tmp_path / str(echo), 4, Modality="MR", EchoTime=echo)
    found = group_series(read_all(tmp_path))
    assert {(s.head.echo_ms, len(s.slices)) for s in found} == {(20, 4), (90, 4)}


def test_mixed_directions_and_sizes_are_divided_and_said(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", 4, orientation=AXIAL)
    write_stack(tmp_path / "b", 2, orientation=SAGITTAL)
    save(make_image(Rows=4, Columns=4, PixelData=bytes(32)), tmp_path / "c")
    found = group_series(read_all(tmp_path))
    assert sorted(len(s.slices) for s in found) == [1, 2, 4]
    assert all({"mixed-orientation", "varying-size"} <= set(codes(s)) for s in found)


def test_a_localizer_in_the_series_is_a_stack_of_its_own(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", 4)
    write_stack(tmp_path / "b", 1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert [len(s.slices) for s in group_series(read_all(tmp_path))] == [4, 1]


@pytest.mark.parametrize("degrees", [-18.5, 10.0])
def test_gantry_tilt_is_measured_from_positions(tmp_path: Path, degrees: float) -> None:
    angle = np.radians(degrees)
    tilted = (1, 0, 0, 0, float(np.cos(angle)), float(np.sin(angle)))
    write_stack(tmp_path, 5, orientation=tilted, direction=(0, 0, 1), GantryDetectorTilt=degrees)
    series = only_series(tmp_path)
    (issue,) = series.issues
    assert issue.code == "gantry-tilt" and issue.degrees == pytest.approx(abs(degrees), abs=0.01)
    assert not issue.refused


def test_planes_beside_the_line_are_refused(tmp_path: Path) -> None:
    for k, aside in enumerate((0, 0, 4, 0)):
        write_stack(tmp_path / str(k), heights=[2.0 * k], origin=(aside, 0, 0))
    assert codes(only_series(tmp_path)) == ["crooked"]


def test_planes_without_place_or_pixel_size_are_refused(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", 3, ImagePositionPatient=None, SeriesInstanceUID="1.2.1")
    write_stack(tmp_path / "b", 3, PixelSpacing=None, SeriesInstanceUID="1.2.2")
    write_stack(tmp_path / "c", 3, PixelSpacing=[0, 0], SeriesInstanceUID="1.2.3")
    found = {s.series_uid: [issue.code for issue in s.refusals] for s in group_series(read_all(tmp_path))}
    assert found == {
        "1.2.1": ["missing-position"],
        "1.2.2": ["missing-spacing"],
        "1.2.3": ["missing-spacing"],
    }


def test_values_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", heights=[0, 2], RescaleSlope=1)
    write_stack(tmp_path / "b", heights=[4, 6], RescaleSlope=2)
    assert codes(only_series(tmp_path)) == ["mixed-scale"]


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (
            {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PixelData": bytes(6 * 8 * 3 * 2)},
            "colour",
        ),
        ({"BitsAllocated": 32, "PixelData": bytes(6 * 8 * 4)}, "32 bits"),
        ({"BitsStored": 40}, "40 of 16"),
        ({"BitsStored": 12, "HighBit": 15}, "bit 15 is the uppermost"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "mosaic"),
    ],
)
def test_pixels_that_are_no_intensities_are_refused(
    tmp_path: Path, tags: dict[str, object], reason: str
) -> None:
    write_stack(tmp_path, 2, **({"PixelData": None} | tags if "PixelData" in tags else tags))
    (issue,) = only_series(tmp_path).refusals
    assert issue.code == "unsupported-pixels" and reason in issue.detail


def test_planes_of_different_width_are_refused(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", heights=[0, 2])
    eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelData": bytes(6 * 8)}
    write_stack(tmp_path / "b", heights=[4, 6], **eight)
    (issue,) = only_series(tmp_path).refusals
    assert issue.code == "unsupported-pixels" and "8 bits in some planes" in issue.detail


def test_frames_of_an_enhanced_file_are_ordered_like_planes(tmp_path: Path) -> None:
    save(make_enhanced([(0, 0, z) for z in (4.0, 0.0, 6.0, 2.0)]), tmp_path / "a")
    series = only_series(tmp_path)
    assert [plane.frame.number for plane in series.slices] == [1, 3, 0, 2] and series.issues == ()


def test_issues_never_repeat_what_the_header_says_in_words(tmp_path: Path) -> None:
    write_stack(tmp_path, heights=[0, 2, 8], SeriesDescription="Jane Doe", BodyPartExamined="DOE")
    assert "Doe" not in repr(only_series(tmp_path).issues).replace("DOE", "Doe")


def test_the_real_mixed_study_is_told_apart(philips: Path) -> None:
    def header(path: Path) -> Instance | None:
        try:
            return read_header(path)
        except HounsfieldError:
            return None

    headers = [found for path in philips.rglob("*") if path.is_file() and (found := header(path))]
    found = group_series(headers)
    assert [(s.head.series_number, len(s.slices)) for s in found] == [
        (100, 1),
        (201, 28),
        (401, 3),
        (401, 2),
        (401, 1),
    ]
    assert found[1].issues == () and found[1].spacing_mm == pytest.approx(5)


def test_a_series_over_time_is_many_volumes(odd: Path) -> None:
    found = group_series(read_all(odd / "rse_panimg" / "dicom_4d"))
    assert {len(s.slices) for s in found} == {4} and len(found) == 19 and not any(s.refusals for s in found)
