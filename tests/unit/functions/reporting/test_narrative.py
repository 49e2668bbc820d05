"""What the sentences say, and that they say nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from shared.db.models import Finding
from tests.unit.functions.reporting import makers
from tests.unit.functions.reporting.makers import (
    classified,
    content,
    detected,
    finding,
    numbers,
    segmented,
    supported,
)

CHANCES = st.floats(0, 1)
SIZES = st.floats(0, 2000)


def impression(*findings: Finding) -> str:
    return " ".join(content(findings).narrative.impression)


@st.composite
def outcomes(draw: st.DrawFn) -> list[Finding]:
    """What the pipeline may find, whole or narrowed, consistent or not."""
    found = [detected(draw(st.sampled_from(["yes", "no"])), draw(CHANCES))]
    if draw(st.booleans()):
        found += classified({name: draw(CHANCES) for name in makers.CLASSES})
    if draw(st.booleans()):
        found += segmented(draw(st.floats(0, 40)), draw(st.none() | SIZES))
    return found


@given(outcomes())
def test_every_number_in_the_narrative_is_a_findings_number(found: list[Finding]) -> None:
    narrative = content(found).narrative
    printed = numbers(" ".join([*narrative.impression, *narrative.findings]))
    assert printed
    assert [number for number in printed if not supported(number, found)] == []


def test_a_whole_study_is_told_in_three_sentences() -> None:
    narrative = content(makers.everything()).narrative
    assert narrative.impression == [
        "The images suggest an intracranial tumour, most likely glioma (91.2 %).",
        "Whole tumour volume 45.2 mL.",
    ]
    assert narrative.findings == [
        "Detection: a tumour is present (probability of a tumour 97.3 %).",
        "Classification: glioma is the most probable class (91.2 %), followed by meningioma (7.1 %).",
        "Segmentation: whole tumour 45.2 mL, tumour core 20.1 mL, enhancing tumour 12.3 mL; "
        "longest diameter within one axial slice 54.1 mm.",
    ]


def test_a_narrowed_pipeline_says_what_was_not_done_and_why() -> None:
    told = content([detected(), *classified()], results=makers.results(segment=False)).narrative
    assert told.findings[-1] == f"Segmentation was not performed: {makers.NEEDS_ALL}."
    assert "volume" not in " ".join(told.impression)


def test_no_tumour_is_said_plainly() -> None:
    assert impression(detected("no", 0.021)) == "No intracranial tumour was detected."
    told = content([detected("no", 0.021)]).narrative.findings
    assert told == ["Detection: no tumour was found (probability of a tumour 2.1 %)."]


def test_results_that_disagree_are_not_smoothed_over() -> None:
    none = {"glioma": 0.1, "meningioma": 0.1, "notumor": 0.7, "pituitary": 0.1}
    nothing_marked = segmented(0, None)
    assert "disagree" in impression(detected("yes"), *classified(none))
    assert "disagree" in impression(detected("yes"), *classified(), *nothing_marked)
    assert "segmentation marked 45.2 mL" in impression(detected("no", 0.2), *segmented())
    assert "disagree" not in impression(detected("no", 0.2), *nothing_marked)


def test_missing_parts_leave_their_sentences_out() -> None:
    assert impression() == "The analysis gave no detection result."
    assert impression(detected("yes", None)) == (
        "The images suggest an intracranial tumour; its type was not determined."
    )
    one_type = [detected(), finding("tumour-type", makers.CLASSIFICATION, value="pituitary")]
    assert "most likely pituitary tumour." in impression(*one_type)
    assert "pituitary tumour is the most probable class." in content(one_type).narrative.findings[1]


def test_a_pipeline_without_words_of_its_own_lists_its_findings() -> None:
    found = [
        finding("volume-liver", "ct-organs", "liver volume", number=1512.34, unit="mL"),
        finding("class", "oct-classifier", "class", value="DRUSEN", probability=0.88),
    ]
    told = content(found, pipeline="ct", results={}).narrative
    assert told.findings == ["Liver volume: 1512.3 mL.", "Class: Drusen (probability 88.0 %)."]
    assert content([], pipeline="ct", results={}).narrative.impression == ["The analysis gave no findings."]
