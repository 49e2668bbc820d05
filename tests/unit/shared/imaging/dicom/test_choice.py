from pathlib import Path
from typing import Any

import pytest

from shared.imaging.dicom.choice import choose
from shared.imaging.dicom.errors import UnusableSeries
from shared.imaging.dicom.series import group_series
from tests.unit.shared.imaging.dicom.builders import (
    CORONAL,
    SECONDARY_CAPTURE,
    read_all,
    write_stack,
)

DERIVED = ["DERIVED", "PRIMARY", "AXIAL"]


class Study:
    """A folder to which series are added; each has a number of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.series = folder, 0

    def add(self, count: int = 4, step: float = 2.0, **tags: Any) -> "Study":
        self.series += 1
        heights = [step * k for k in range(count)]
        defaults = {
            "SeriesInstanceUID": f"1.2.3.4.{self.series}",
            "SeriesNumber": self.series,
            "SliceThickness": step,
        }
        write_stack(self.folder / str(self.series), heights=heights, **(defaults | tags))
        return self

    def add_mr(self, **tags: Any) -> "Study":
        return self.add(**({"Modality": "MR", "ImageType": ["ORIGINAL", "PRIMARY", "M"]} | tags))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def chosen_ct(study: Study) -> int | None:
    (chosen,) = choose(group_series(read_all(study.folder)), "ct").chosen
    return chosen.series.head.series_number


def test_scouts_captures_and_reports_are_never_chosen(study: Study) -> None:
    study.add(9, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    study.add(9, SOPClassUID=SECONDARY_CAPTURE).add(9, Modality="SEG").add(9, Modality="MR").add(3)
    choice = choose(group_series(read_all(study.folder)), "ct")
    assert [one.series.head.series_number for one in choice.chosen] == [5]
    assert [over.reason for over in choice.passed_over] == [
        "is a scout (LOCALIZER)",
        "is a secondary capture",
        "is a segmentation",
        "is of modality MR",
    ]
    assert choice.chosen[0].reason.startswith("original axial CT with 3 planes 2.00 mm apart")


def test_original_comes_before_derived_even_with_fewer_planes(study: Study) -> None:
    assert chosen_ct(study.add(9, ImageType=DERIVED).add(4)) == 2


def test_axial_comes_before_reformats(study: Study) -> None:
    assert chosen_ct(study.add(9, orientation=CORONAL).add(4)) == 2


def test_more_planes_come_first_then_thinner_ones_then_softer_kernels_then_lower_numbers(
    study: Study,
) -> None:
    study.add(4, 2.0).add(6, 2.0, ConvolutionKernel="B70f").add(6, 1.5, ConvolutionKernel="B70f")
    assert chosen_ct(study) == 3
    assert chosen_ct(study.add(6, 1.5, ConvolutionKernel="B30f").add(6, 1.5, ConvolutionKernel="B30f")) == 4


def test_a_series_that_cannot_be_used_gives_way(study: Study) -> None:
    study.add(4)
    write_stack(study.folder / "x", heights=[0, 2, 4, 9, 11, 13], SeriesInstanceUID="1.9", SeriesNumber=9)
    choice = choose(group_series(read_all(study.folder)), "ct")
    assert choice.chosen[0].series.head.series_number == 1
    assert "Planes are missing" in choice.passed_over[0].reason


def test_nothing_usable_is_refused_with_the_reason_of_each(study: Study) -> None:
    study.add(1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]).add(2, Modality="RTDOSE")
    with pytest.raises(UnusableSeries, match=r"Series 1 is a scout .* Series 2 is a radiotherapy dose"):
        choose(group_series(read_all(study.folder)), "ct")


def test_an_mri_study_gives_one_series_of_each_sequence(study: Study) -> None:
    study.add_mr(SeriesDescription="3-plane loc").add_mr(SeriesDescription="Ax T1").add_mr(
        SeriesDescription="Ax T2 FLAIR"
    )
    study.add_mr(SeriesDescription="Ax T2 TSE").add_mr(SeriesDescription="Ax T1 post gd")
    study.add_mr(SeriesDescription="DWI b1000", ImageType=["ORIGINAL", "PRIMARY", "DIFFUSION"])
    choice = choose(group_series(read_all(study.folder)), "brain-mri")
    told = {one.sequence.modality: one.series.head.series_number for one in choice.chosen if one.sequence}
    assert told == {"t1": 2, "flair": 3, "t2": 4, "t1ce": 5}
    assert {over.series.head.series_number for over in choice.passed_over} == {1, 6}


def test_of_two_series_of_a_sequence_the_thinner_one_is_read(study: Study) -> None:
    study.add_mr(step=5.0, SeriesDescription="Ax T1").add_mr(count=8, step=1.0, SeriesDescription="T1 MPRAGE")
    choice = choose(group_series(read_all(study.folder)), "brain-mri")
    assert [one.series.head.series_number for one in choice.chosen] == [2]
    assert [over.reason for over in choice.passed_over] == ["is another T1 series; Series 2 comes first"]
    assert (
        choice.chosen[0].reason
        == "T1 by its description; 8 planes 1.00 mm apart, the first by the rules of 2 T1 series"
    )


def test_reasons_hold_nothing_of_the_free_text(study: Study) -> None:
    study.add_mr(SeriesDescription="T1 Jane Doe").add_mr(SeriesDescription="Doe loc")
    choice = choose(group_series(read_all(study.folder)), "brain-mri")
    assert "Doe" not in repr(choice)


def test_the_head_series_of_the_real_mixed_study_is_chosen(philips: Path) -> None:
    choice = choose(group_series(read_all(philips)), "ct")
    assert [(one.series.head.series_number, len(one.series.slices)) for one in choice.chosen] == [(201, 28)]
    assert sorted(over.reason for over in choice.passed_over) == [
        "is a scout (LOCALIZER)",
        "is a secondary capture",
        "is a secondary capture",
        "is a secondary capture",
    ]
