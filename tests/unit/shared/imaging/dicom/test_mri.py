from pathlib import Path
from typing import Any

import pytest

from shared.imaging.dicom.headers import read_header
from shared.imaging.dicom.instance import Instance
from shared.imaging.dicom.mri import SequenceGuess, has_contrast, sequence_from_timing, sequence_of
from tests.unit.shared.imaging.dicom.builders import make_image, save


@pytest.fixture
def head(tmp_path: Path) -> Any:
    def make(**tags: Any) -> Instance:
        return read_header(save(make_image(Modality="MR", **tags), tmp_path / "a"))

    return make


def told(header: Instance) -> str | None:
    guess = sequence_of(header)
    return guess.modality if guess else None


@pytest.mark.parametrize(
    ("description", "sequence"),
    [
        ("Ax T1 SE", "t1"),
        ("t1_mprage_sag_p2_iso", "t1"),
        ("AX T1 POST", "t1ce"),
        ("T1 +C MPRAGE", "t1ce"),
        ("COR T1+GD", "t1ce"),
        ("t1_tse_tra km", "t1ce"),
        ("T1 w/o contrast", "t1"),
        ("Ax T1 pre contrast", "t1"),
        ("AX T2 FSE", "t2"),
        ("t2_tse_tra_512", "t2"),
        ("t2_tirm_tra_dark-fluid FLAIR", "flair"),
        ("Sag 3D FLAIR", "flair"),
        ("AX T2 FLAIR POST", "flair"),
        ("Ax T2* GRE", None),
        ("ep2d_diff_b1000", None),
        ("ADC map", None),
        ("3 Plane Localizer", None),
        ("Ax SWI", None),
        ("PERFUSION DSC", None),
        ("MRA TOF", None),
        ("Screen Save", None),
    ],
)
def test_a_description_tells_the_sequence(head: Any, description: str, sequence: str | None) -> None:
    assert told(head(SeriesDescription=description)) == sequence


def test_a_contrast_agent_makes_a_t1_a_t1ce_unless_it_says_pre(head: Any) -> None:
    with_agent = {"ContrastBolusAgent": "Gadovist 7.5 ml"}
    assert sequence_of(head(SeriesDescription="Ax T1", **with_agent)) == SequenceGuess(
        "t1ce", "contrast", 0.9
    )
    assert told(head(SeriesDescription="Ax T1 pre", **with_agent)) == "t1"
    assert told(head(SeriesDescription="Ax T2", **with_agent)) == "t2"
    assert told(head(SeriesDescription="Ax FLAIR", **with_agent)) == "flair"


@pytest.mark.parametrize("agent", ["", "NONE", "No", "no contrast", "N/A", "ohne KM", "0"])
def test_some_scanners_write_that_there_is_no_agent(head: Any, agent: str) -> None:
    assert not has_contrast(head(ContrastBolusAgent=agent))
    assert told(head(SeriesDescription="Ax T1", ContrastBolusAgent=agent)) == "t1"


@pytest.mark.parametrize(
    ("timing", "sequence"),
    [
        ({"RepetitionTime": 9000, "EchoTime": 120, "InversionTime": 2500}, "flair"),
        ({"RepetitionTime": 4500, "EchoTime": 100}, "t2"),
        ({"RepetitionTime": 500, "EchoTime": 10, "ScanningSequence": "SE"}, "t1"),
        (
            {"RepetitionTime": 2000, "EchoTime": 3, "InversionTime": 900, "ScanningSequence": ["GR", "IR"]},
            "t1",
        ),
        ({"RepetitionTime": 8, "EchoTime": 3, "FlipAngle": 15, "ScanningSequence": "GR"}, "t1"),
        ({"RepetitionTime": 4500, "EchoTime": 70, "InversionTime": 160}, None),  # STIR
        ({"RepetitionTime": 3000, "EchoTime": 20}, None),  # proton density
        ({"RepetitionTime": 5000, "EchoTime": 90, "ScanningSequence": "EP"}, None),  # diffusion
        ({"RepetitionTime": 30, "EchoTime": 20, "FlipAngle": 15, "ScanningSequence": "GR"}, None),  # SWI
        ({"EchoTime": 90}, None),
    ],
)
def test_timing_tells_where_words_do_not(head: Any, timing: dict[str, Any], sequence: str | None) -> None:
    header = head(SeriesDescription="series", **timing)
    assert sequence_from_timing(header) == sequence
    expected = SequenceGuess(sequence, "timing", 0.7) if sequence else None
    assert sequence_of(header) == expected


def test_timing_and_contrast_together_tell_t1ce(head: Any) -> None:
    header = head(RepetitionTime=500, EchoTime=10, ContrastBolusAgent="Dotarem")
    assert sequence_of(header) == SequenceGuess("t1ce", "contrast", 0.7)


def test_agreement_makes_surer_and_dispute_less_sure(head: Any) -> None:
    t2 = {"RepetitionTime": 4500, "EchoTime": 100}
    assert sequence_of(head(SeriesDescription="T2", **t2)) == SequenceGuess("t2", "description", 0.95)
    assert sequence_of(head(SeriesDescription="T1", **t2)) == SequenceGuess("t1", "description", 0.6)
    assert sequence_of(head(SeriesDescription="T1")) == SequenceGuess("t1", "description", 0.9)


def test_the_protocol_speaks_when_the_description_is_silent(head: Any) -> None:
    assert told(head(SeriesDescription="series 4", ProtocolName="AX FLAIR")) == "flair"
