"""Sentences from findings. Templates see findings and steps only: no sentence says what no model found."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from functions.reporting import wording
from functions.reporting.schemas import FindingLine, Narrative, Step

_TEXTS = Environment(
    loader=PackageLoader("functions.reporting", "templates/narrative"),
    undefined=StrictUndefined,
    autoescape=False,  # plain text: the HTML and PDF forms escape it
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEXTS.filters |= {
    "percent": wording.percent,
    "quantity": wording.quantity,
    "result": wording.result,
    "plain": wording.plain,
    "small": wording.small,
    "capital": wording.capital,
    "step_title": wording.step_title,
}
_GENERIC = "generic.j2"


def narrate(pipeline: str, findings: Sequence[FindingLine], steps: Sequence[Step]) -> Narrative:
    """The narrative of a pipeline's own template, else of the generic one."""
    template = _TEXTS.select_template([f"{pipeline}.j2", _GENERIC])
    values: dict[str, object] = {
        "findings": findings,
        "named": {finding.name: finding for finding in findings},
        "ranked": _ranked(findings, "type-probability-"),
        "volumes": [f for f in findings if f.name.startswith("volume-") and f.number is not None],
        "skipped": [step for step in steps if step.status == "skipped"],
    }
    return Narrative(
        impression=_sentences(template, "impression", values),
        findings=_sentences(template, "findings", values),
    )


def _ranked(findings: Sequence[FindingLine], prefix: str) -> list[tuple[str, float]]:
    """(class, probability) of the findings named `<prefix><class>`, most probable first."""
    pairs = [
        (f.name.removeprefix(prefix), f.probability)
        for f in findings
        if f.name.startswith(prefix) and f.probability is not None
    ]
    return sorted(pairs, key=lambda pair: -pair[1])


def _sentences(template: Template, block: str, values: dict[str, object]) -> list[str]:
    """One sentence per line of the block that has text."""
    text = "".join(template.blocks[block](template.new_context(values)))
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]
