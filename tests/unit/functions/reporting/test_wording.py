"""How numbers and names are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.reporting import wording
from functions.reporting.schemas import FindingLine, Metric, Modality, ModelLine


def line(**values: object) -> FindingLine:
    return FindingLine.model_validate(
        {"name": "x", "display": "X", "model": "m", "model_version": "1", **values}
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(45.23, "45.2"), (0.0, "0.0"), (0.04, "< 0.1"), (0.06, "0.1"), (-0.01, "> -0.1"), (1234.56, "1234.6")],
)
def test_numbers_have_one_decimal_and_something_never_becomes_nothing(value: float, text: str) -> None:
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.9734, "97.3 %"), (1.0, "100.0 %"), (0.9997, "> 99.9 %"), (0.0004, "< 0.1 %"), (0.0, "0.0 %")],
)
def test_a_probability_is_certain_only_when_the_model_said_so(probability: float, text: str) -> None:
    assert wording.percent(probability) == text


@given(st.floats(0, 1))
def test_percent_is_the_probability_to_half_a_tenth_or_a_true_bound(probability: float) -> None:
    text = wording.percent(probability).removesuffix(" %")
    if text.startswith("<"):
        assert 0 < probability * 100 < float(text[2:])
    elif text.startswith(">"):
        assert float(text[2:]) < probability * 100 < 100
    else:
        assert float(text) == pytest.approx(probability * 100, abs=0.05 + 1e-9)


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (line(number=12.5, unit="mL"), "12.5 mL"),
        (line(number=3.0, unit="mm2"), "3.0 mm²"),
        (line(number=3.0, unit="1"), "3.0"),
        (line(number=3.0, unit="{cells}"), "3.0 cells"),
        (line(value="notumor"), "No tumour"),
        (line(value="NORMAL"), "Normal"),
        (line(number=float("nan"), unit="mL"), "–"),
        (line(), "–"),
    ],
)
def test_a_result_is_a_quantity_or_a_value_in_words(finding: FindingLine, text: str) -> None:
    assert wording.result(finding) == text


def test_sequences_are_grouped_by_how_they_were_recognised() -> None:
    found = {
        "t1": Modality(source="filename"),
        "flair": Modality(source="filename"),
        "t2": Modality(source="image"),
    }
    assert wording.modalities(found) == "T1, FLAIR (by file name); T2 (by look of the image)"


def test_a_models_accuracy_says_on_what_it_was_measured() -> None:
    metrics = [Metric(name="Dice", value=0.8712, split="test", n=20), Metric(name="AUC", value=0.98)]
    assert wording.accuracy(ModelLine(name="m", version="1", metrics=metrics)) == (
        "Dice 0.871 (test, n = 20); AUC 0.980"
    )
    assert wording.accuracy(ModelLine(name="m", version="1")) == "accuracy not stated"
