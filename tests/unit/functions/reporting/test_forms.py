"""HTML and PDF: what they show, what they must not, and that nothing in them is markup by accident."""

import base64
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from pypdf import PdfReader

from functions.reporting.html import render_html
from functions.reporting.pdf import render_pdf
from functions.reporting.schemas import DISCLAIMER, ReportContent
from shared.db.models import Finding
from tests.unit.functions.reporting import makers
from tests.unit.functions.reporting.makers import content, finding, numbers, supported
from tests.unit.functions.reporting.test_narrative import outcomes

FACTS = {
    name: {
        "metrics": [
            {"name": f"score {letter}", "value": 0.912, "split": "test", "n": 394} for letter in "ABC"
        ],
        "intended_use": "Research and demonstration on brain MRI of adults, never for diagnosis or treatment",
    }
    for name in (makers.DETECTION, makers.CLASSIFICATION, makers.SEGMENTATION)
}
HOSTILE = """<script>alert(1)</script><b>"&amp;'"""


class Page(HTMLParser):
    """The text and the tags of a page, without its style sheet."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.text, self.tags, self.inside = "", [], ""
        self.feed(html.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""
        self.text += "\n"

    def handle_data(self, data: str) -> None:
        if self.inside not in ("style", "title"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def pdf_of(made: ReportContent) -> PdfReader:
    return PdfReader(io.BytesIO(render_pdf(made, {picture.role: makers.png() for picture in made.pictures})))


def text_of(reader: PdfReader) -> str:
    return "\n".join(page.extract_text() for page in reader.pages)


def without_provenance(text: str, made: ReportContent) -> str:
    """The text less what it says of the report itself: identities, times, the slice, versions, rounding."""
    text = re.sub(r"\s+", " ", text)
    known = [made.rounding, str(made.report_id), str(made.task_id), made.study.patient_id]
    known += [str(made.study.scan_date), "2026-03-05 09:30 UTC", "index 84", "Page 1 of 1"]
    known += [f"{model.name} {model.version}" for model in made.models]
    for part in known:
        text = text.replace(part, "")
    return text


@settings(max_examples=25, deadline=None)
@given(outcomes())
def test_every_number_on_either_page_is_a_findings_number(found: list[Finding]) -> None:
    made = content(found, models={})
    for text in (Page(_without_models(render_html(made, {}))).text, text_of(pdf_of(made))):
        printed = numbers(without_provenance(text, made))
        assert len(printed) >= sum(one.number is not None or one.probability is not None for one in found)
        assert [number for number in printed if not supported(number, found)] == []


def _without_models(html: bytes) -> bytes:
    """The page less its table of models, whose version cells are not findings."""
    return re.sub(rb'<section aria-labelledby="models">.*?</section>', b"", html, flags=re.DOTALL)


def test_the_pdf_of_a_full_report_is_one_page_with_every_figure() -> None:
    warnings = [
        "The tumour type was told from FLAIR; the model was made for T1CE.",
        "Thick slices.",
        "Noise.",
    ]
    made = content(
        makers.everything(),
        artifacts=["overlay-montage", "overlay"],
        results=makers.results(model_facts=FACTS, warnings=warnings),
    )
    reader = pdf_of(made)
    text = re.sub(r"\s+", " ", text_of(reader))
    assert len(reader.pages) == 1 and len(reader.pages[0].images) == 1
    for shown in ("97.3 %", "91.2 %", "45.2 mL", "20.1 mL", "12.3 mL", "54.1 mm", "< 0.1 %", "Page 1 of 1"):
        assert shown in text
    for shown in (DISCLAIMER, "P-0193", "2024-03-05", str(made.report_id), str(made.task_id), *warnings):
        assert shown in text
    assert "score A 0.912 (test, n = 394)" in text
    assert reader.metadata is not None and reader.metadata.title == f"Brain MRI report {made.report_id}"
    assert reader.metadata.creation_date == makers.CREATED


def test_the_pdf_is_the_same_bytes_each_time() -> None:
    made = content(makers.everything(), artifacts=["overlay"])
    pictures = {"overlay": makers.png()}
    assert render_pdf(made, pictures) == render_pdf(made, pictures)


def test_a_report_with_more_than_a_page_goes_on_and_counts_its_pages() -> None:
    many = [finding(f"volume-{n}", "ct-organs", f"organ {n}", number=1.0 + n, unit="mL") for n in range(104)]
    reader = pdf_of(content(many, pipeline="ct", results={}, artifacts=["overlay"]))
    total = len(reader.pages)
    assert total > 1
    for number, page in enumerate(reader.pages, start=1):
        assert f"Page {number} of {total}" in page.extract_text()
        assert DISCLAIMER in re.sub(r"\s+", " ", page.extract_text())


@pytest.mark.parametrize("size", [(4000, 100), (100, 4000), (1, 1)])
def test_a_picture_of_any_shape_fits_the_page(size: tuple[int, int]) -> None:
    made = content(makers.everything(), artifacts=["overlay"])
    reader = PdfReader(io.BytesIO(render_pdf(made, {"overlay": makers.png(*size)})))
    assert len(reader.pages) == 1


def test_what_the_pdf_fonts_lack_is_shown_as_an_escape() -> None:
    assert r"\u738b-7" in text_of(pdf_of(content([], patient_id="王-7")))


def test_text_from_outside_is_never_markup() -> None:
    made = content(
        [finding("x", HOSTILE, HOSTILE, value=HOSTILE, unit=HOSTILE)],
        patient_id=HOSTILE,
        pipeline="other",
        results=makers.results(warnings=[HOSTILE], model_facts={HOSTILE: {"intended_use": HOSTILE}}),
    )
    html = render_html(made, {})
    page = Page(html)
    assert page.all("script") == [] and page.all("b") == []
    assert HOSTILE in page.text
    assert HOSTILE in re.sub(r"\s+", " ", text_of(pdf_of(made)))


def test_the_page_is_self_contained_and_embeds_its_pictures() -> None:
    made = content(makers.everything(), artifacts=["overlay-montage", "overlay"])
    pictures = {"overlay-montage": makers.png(), "overlay": makers.png(50, 50)}
    page = Page(render_html(made, pictures))
    sources = [image["src"] or "" for image in page.all("img")]
    embedded = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources]
    assert embedded == list(pictures.values())
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert b"url(" not in render_html(made, pictures)


def test_the_page_can_be_read_by_a_screen_reader() -> None:
    made = content(makers.everything(), artifacts=["overlay"], results=makers.results(warnings=["Noise."]))
    page = Page(render_html(made, {"overlay": makers.png()}))
    assert page.all("html") == [{"lang": "en-GB"}]
    assert len(page.all("h1")) == 1
    headings = [tag for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings == ["h1"] + ["h2"] * 5
    assert len(page.all("caption")) == len(page.all("table")) == 2
    assert all(cell.get("scope") for cell in page.all("th"))
    assert all(image["alt"] for image in page.all("img"))
    assert DISCLAIMER in page.text
