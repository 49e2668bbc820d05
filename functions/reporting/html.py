"""The report as one self-contained HTML page: no script, no link to anything outside."""

import base64
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from functions.reporting import wording
from functions.reporting.schemas import ReportContent

_PAGES = Environment(
    loader=PackageLoader("functions.reporting"),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
_PAGES.filters |= {
    "result": wording.result,
    "chance": wording.chance,
    "joined": wording.joined,
    "capital": wording.capital,
    "accuracy": wording.accuracy,
    "modality": wording.modality,
    "modalities": wording.modalities,
    "moment": wording.moment,
}


def render_html(content: ReportContent, pictures: Mapping[str, bytes]) -> bytes:
    """UTF-8 HTML; `pictures` are the encoded files of `content.pictures` by role."""
    images = [
        (picture, f"data:{picture.media_type};base64,{base64.b64encode(pictures[picture.role]).decode()}")
        for picture in content.pictures
    ]
    return _PAGES.get_template("report.html.j2").render(report=content, images=images).encode()
