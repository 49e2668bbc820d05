from typing import Any

import pytest
from rich.console import Console

from functions.printing import one_line, outcome, sending_progress, show_findings, show_letters
from shared.client import Progress as Sent
from shared.client import Study
from shared.db.models import DeadLetter
from shared.ids import uuid7

MODELS = ("brain-tumor-detection", "brain-tumor-classification", "brain-tumor-segmentation")


def finding(display: str, model: str, **more: Any) -> dict[str, Any]:
    nothing = {"value": None, "number": None, "unit": None, "probability": None}
    return {"display": display, "model": model, "model_version": "1.0.0", **nothing, **more}


def study() -> Study:
    findings = [
        finding("Tumour detected", MODELS[0], value="yes", probability=0.98),
        finding("Tumour type", MODELS[1], value="pituitary", probability=0.9),
        finding("Probability: no tumour", MODELS[1], probability=0.01),
        finding("Oedema volume", MODELS[2], number=12345.678, unit="mm3"),
    ]
    skipped = [{"name": "segment", "status": "skipped", "reason": "there is no [t1ce]"}]
    results = {"findings": findings, "steps": skipped, "warnings": ["geometry from [sform]"]}
    return Study.read({"id": "1", "status": "completed", "results": results})


def printed(width: int, shown: Any, what: Any, terminal: bool = False) -> str:
    console = Console(width=width, force_terminal=terminal, no_color=True)
    with console.capture() as capture:
        shown(console, what)
    return capture.get()


def test_findings_stand_under_their_model_and_fit_80_columns() -> None:
    text = printed(80, show_findings, study())
    assert "…" not in text
    for model in MODELS:
        assert text.count(f"{model} v1.0.0") == 1
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("Probability: no tumour" in line and "0.010" in line for line in lines)
    assert any("Oedema volume" in line and "12345.7 mm3" in line for line in lines)


def test_words_of_a_server_are_printed_as_they_are() -> None:
    text = printed(80, show_findings, study())
    assert "there is no [t1ce]" in text
    assert "geometry from [sform]" in text


@pytest.mark.parametrize("error", ["[/red]", "[bold", "\x1b[2Jgone", "a\nb"])
def test_a_dead_letter_has_its_id_whole_on_a_terminal_and_one_line_in_a_pipe(
    error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    letter_id = uuid7()
    letter = DeadLetter(id=letter_id, function="x", type="y", key="k", attempts=3, error=error)
    text = printed(80, show_letters, [letter], terminal=True)
    assert str(letter_id) in text
    assert one_line(error) in text
    assert "\x1b[2J" not in text
    show_letters(Console(width=20), [letter])
    assert capsys.readouterr().out == f"{letter_id}\tx\ty\tk\t3\t{one_line(error)}\n"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": "rejected", "message": "no voxel differs"}, "rejected: no voxel differs"),
        ({"status": "receiving", "held": ["text is burnt in"]}, "held until a person has looked at it: text"),
        ({"status": "ingested", "kind": "ct"}, "nothing analyses ct yet"),
    ],
)
def test_a_study_without_results_says_why(answer: dict[str, Any], words: str) -> None:
    study = Study.read({"id": "1", **answer})
    assert words in outcome(study)
    assert printed(80, show_findings, study) == ""


def test_the_bar_of_a_resumed_upload_begins_where_it_was() -> None:
    console = Console(width=100, force_terminal=True, no_color=True)
    with console.capture() as capture, sending_progress(console) as move:
        move(Sent(done=75 << 20, total=100 << 20, before=75 << 20))
        move(Sent(done=100 << 20, total=100 << 20, before=75 << 20))
    assert "104.9/104.9 MB" in capture.get()
