"""The report as a PDF: A4, one page unless more is said than fits; the same bytes for the same content."""

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.enums import TA_CENTER, TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    Image,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)

from functions.reporting import wording
from functions.reporting.schemas import ReportContent, Section

MARGIN = 16 * mm
HEADER, FOOTER = 21 * mm, 16 * mm
WIDTH = A4[0] - 2 * MARGIN
PICTURE_HEIGHTS = (72 * mm, 60 * mm, 50 * mm, 40 * mm)
"""Tried in turn until everything is on one page."""

INK, DIM, LINE, TINT = HexColor("#16212e"), HexColor("#52606d"), HexColor("#d5dce4"), HexColor("#f3f6f9")
BRAND, ALERT, ALERT_TINT = HexColor("#0b4f6c"), HexColor("#8a1c13"), HexColor("#fdf3f2")

BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=8.5, leading=11, textColor=INK)
BOLD = ParagraphStyle("bold", BODY, fontName="Helvetica-Bold")
RIGHT = ParagraphStyle("right", BODY, alignment=TA_RIGHT)
HEAD_RIGHT = ParagraphStyle("head-right", BOLD, alignment=TA_RIGHT)
SMALL = ParagraphStyle("small", BODY, fontSize=7.5, leading=9.5, textColor=DIM)
CAPTION = ParagraphStyle("caption", SMALL, alignment=TA_CENTER, spaceBefore=2)
NOTE = ParagraphStyle("note", BODY, fontName="Helvetica-Oblique", textColor=DIM)
HEADING = ParagraphStyle(
    "heading", BOLD, fontSize=10, leading=12, textColor=BRAND, spaceBefore=7, spaceAfter=3
)
IMPRESSION = ParagraphStyle("impression", BODY, fontSize=10.5, leading=14)
NOTICE = ParagraphStyle("notice", BOLD, fontSize=9.5, leading=12, textColor=ALERT, alignment=TA_CENTER)


def render_pdf(content: ReportContent, pictures: Mapping[str, bytes]) -> bytes:
    """PDF bytes; `pictures`: the encoded files of `content.pictures` by role, of which the best is shown."""
    heights = PICTURE_HEIGHTS if content.pictures else PICTURE_HEIGHTS[:1]
    for height in heights:
        pages, pdf = _build(content, _story(content, pictures, height), total=1)
        if pages == 1:
            return pdf
    return _build(content, _story(content, pictures, heights[-1]), total=pages)[1]


def _build(content: ReportContent, story: list[Flowable], total: int) -> tuple[int, bytes]:
    """The number of pages, and the file, whose footers say that there are `total`."""
    buffer = io.BytesIO()
    document = BaseDocTemplate(
        buffer,
        pagesize=A4,
        title=f"{content.title} {content.report_id}",
        author="Hounsfield",
        subject=content.disclaimer,
        creator="Hounsfield",
        lang="en-GB",
        invariant=1,  # no clock and no random id of its own
    )
    frame = Frame(
        MARGIN, FOOTER, WIDTH, A4[1] - HEADER - FOOTER,
        leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0,
    )  # fmt: skip
    document.addPageTemplates(
        PageTemplate("page", [frame], onPage=partial(_furniture, content=content, total=total))
    )
    document.build(story)
    return document.page, buffer.getvalue()


def _furniture(canvas: Canvas, document: BaseDocTemplate, content: ReportContent, total: int) -> None:
    """What every page has: title line above, identity and page number below."""
    canvas.setDateFormatter(lambda *_: _pdf_date(content.created_at))
    top, right = A4[1] - 14 * mm, A4[0] - MARGIN
    canvas.setFillColor(BRAND)
    canvas.rect(0, A4[1] - 3 * mm, A4[0], 3 * mm, stroke=0, fill=1)
    canvas.setFillColor(INK)
    canvas.setFont("Helvetica-Bold", 16)
    canvas.drawString(MARGIN, top, _printable(content.title))
    canvas.setFillColor(DIM)
    canvas.setFont("Helvetica", 8.5)
    canvas.drawRightString(right, top, "Hounsfield · automated image analysis")
    canvas.setStrokeColor(LINE)
    canvas.line(MARGIN, FOOTER - 3 * mm, right, FOOTER - 3 * mm)
    canvas.setFont("Helvetica", 6.8)
    canvas.drawString(MARGIN, FOOTER - 6.5 * mm, f"Report {content.report_id} · Task {content.task_id}")
    canvas.drawString(
        MARGIN, FOOTER - 9.5 * mm, f"Created {wording.moment(content.created_at)} · {content.disclaimer}"
    )
    canvas.drawRightString(right, FOOTER - 6.5 * mm, f"Page {document.page} of {total}")


def _story(content: ReportContent, pictures: Mapping[str, bytes], picture_height: float) -> list[Flowable]:
    """The page from top to bottom."""
    return [
        _box([Paragraph(_text(content.disclaimer), NOTICE)], ALERT_TINT, ALERT, all_round=True),
        Spacer(0, 3 * mm),
        _facts(content),
        Paragraph("Impression", HEADING),
        _box([Paragraph(_text(s), IMPRESSION) for s in content.narrative.impression], TINT, BRAND),
        *_warnings(content.warnings),
        Paragraph("Findings", HEADING),
        *(Paragraph(_text(sentence), BODY) for sentence in content.narrative.findings),
        Spacer(0, 2 * mm),
        *_table(content.sections),
        Paragraph(_text(content.rounding), ParagraphStyle("rounding", SMALL, spaceBefore=2)),
        *_picture(content, pictures, picture_height),
        *_models(content),
    ]


def _facts(content: ReportContent) -> Table:
    """The study in two columns of name and value."""
    study = content.study
    facts = [
        ("Patient ID", study.patient_id),
        ("Scan date", str(study.scan_date or "not given")),
        ("Study", study.kind_display),
        ("Reported", wording.moment(content.created_at)),
    ]
    if study.modalities:
        facts.append(("Sequences", wording.modalities(study.modalities)))
    if study.slice:
        facts.append(
            ("Slice analysed", f"{wording.modality(study.slice.modality)}, index {study.slice.index}")
        )
    cells = [[Paragraph(name, SMALL), Paragraph(_text(value), BODY)] for name, value in facts]
    if len(cells) % 2:
        cells.append([Paragraph("", SMALL), Paragraph("", BODY)])
    rows = [left + right for left, right in zip(cells[::2], cells[1::2], strict=True)]
    widths = [20 * mm, WIDTH / 2 - 20 * mm, 24 * mm, WIDTH / 2 - 24 * mm]
    tight = [("VALIGN", (0, 0), (-1, -1), "TOP"), *_padding(left=0, right=4, vertical=0.8)]
    return Table(rows, colWidths=widths, style=TableStyle(tight))


def _table(sections: list[Section]) -> list[Flowable]:
    """Every finding, below the step that gave it."""
    if not sections:
        return []
    rows: list[list[Any]] = [
        [
            Paragraph("Finding", BOLD),
            Paragraph("Result", BOLD),
            Paragraph("Probability", HEAD_RIGHT),
            Paragraph("Model and version", BOLD),
        ]
    ]
    style: list[Any] = [
        ("LINEBELOW", (0, 0), (-1, 0), 0.9, INK),
        ("LINEBELOW", (0, 1), (-1, -1), 0.4, LINE),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        *_padding(left=4, right=4, vertical=1.3),
        ("LEFTPADDING", (3, 0), (3, -1), 14),
    ]
    for section in sections:
        style += [("BACKGROUND", (0, len(rows)), (-1, len(rows)), TINT)]
        style += [("SPAN", (0, len(rows)), (0 if section.note else -1, len(rows)))]
        style += [("SPAN", (1, len(rows)), (-1, len(rows)))] if section.note else []
        note = Paragraph(_text(section.note), NOTE) if section.note else ""
        rows.append([Paragraph(_text(section.title), BOLD), note, "", ""])
        for finding in section.findings:
            rows.append(
                [
                    Paragraph(_text(wording.capital(finding.display)), BODY),
                    Paragraph(_text(wording.result(finding)), BODY),
                    Paragraph(_text(wording.chance(finding)), RIGHT),
                    Paragraph(_text(f"{finding.model} {finding.model_version}"), BODY),
                ]
            )
    widths = [0.32 * WIDTH, 0.2 * WIDTH, 0.14 * WIDTH, 0.34 * WIDTH]
    return [Table(rows, colWidths=widths, style=TableStyle(style), repeatRows=1)]


def _picture(content: ReportContent, pictures: Mapping[str, bytes], height: float) -> list[Flowable]:
    """The best picture, as large as width and `height` allow, with its caption."""
    if not content.pictures:
        return []
    best = content.pictures[0]
    wide, high = ImageReader(io.BytesIO(pictures[best.role])).getSize()
    scale = min(WIDTH / wide, height / high)
    image = Image(io.BytesIO(pictures[best.role]), wide * scale, high * scale)
    return [
        CondPageBreak(high * scale + 12 * mm),
        Spacer(0, 3 * mm),
        image,
        Paragraph(_text(best.caption), CAPTION),
    ]


def _models(content: ReportContent) -> list[Flowable]:
    if not content.models:
        return []
    lines = [
        Paragraph(
            f"<b>{_text(model.name)} {_text(model.version)}</b>: "
            f"measured {_text(wording.accuracy(model))}."
            + (f" Intended use: {_text(model.intended_use)}" if model.intended_use else ""),
            SMALL,
        )
        for model in content.models
    ]
    return [Paragraph("Models", HEADING), *lines]


def _warnings(warnings: list[str]) -> list[Flowable]:
    if not warnings:
        return []
    style = ParagraphStyle("warning", BODY, leftIndent=8, bulletIndent=0)
    return [
        Paragraph("Warnings", HEADING),
        *(Paragraph(_text(warning), style, bulletText="•") for warning in warnings),
    ]


def _box(content: list[Paragraph], fill: Color, edge: Color, *, all_round: bool = False) -> Table:
    """Paragraphs on a tinted ground, with a bar at the left or a frame."""
    border = ("BOX", (0, 0), (-1, -1), 1.2, edge) if all_round else ("LINEBEFORE", (0, 0), (0, -1), 3, edge)
    style = [("BACKGROUND", (0, 0), (-1, -1), fill), border, *_padding(left=9, right=9, vertical=3.5)]
    return Table([[content or [Paragraph("", BODY)]]], colWidths=[WIDTH], style=TableStyle(style))


def _padding(left: float, right: float, vertical: float) -> list[tuple[Any, ...]]:
    sides = {"LEFTPADDING": left, "RIGHTPADDING": right, "TOPPADDING": vertical, "BOTTOMPADDING": vertical}
    return [(side, (0, 0), (-1, -1), points) for side, points in sides.items()]


def _text(text: str) -> str:
    """Plain text as reportlab's markup."""
    return escape(_printable(wording.joined(text)))


def _printable(text: str) -> str:
    """Characters that the built-in fonts lack are written as escapes: to be seen, not silently dropped."""
    return text.encode("cp1252", "backslashreplace").decode("cp1252")


def _pdf_date(time: datetime) -> str:
    """ISO 32000-1 §7.9.4."""
    return f"D:{time.astimezone(UTC):%Y%m%d%H%M%S}Z"
