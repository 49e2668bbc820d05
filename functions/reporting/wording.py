"""How numbers, units, values and names are written for people. The JSON form keeps them exact."""

import re
from datetime import UTC, datetime

from functions.reporting.schemas import FindingLine, Metric, Modality, ModelLine

ROUNDING = (
    "Numbers are rounded to one decimal, probabilities to a tenth of a percent; what would round to nothing, "
    "or a probability to certainty, is given as a bound (< or >). The structured report holds exact values."
)
NONE = "–"
_LEAST = 0.1
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=%|[mcµ]?[mL]\b)|(?<=[<>]) (?=\d)")
_UNITS = {"1": "", "mm2": "mm²", "mm3": "mm³", "cm2": "cm²", "cm3": "cm³", "um": "µm"}
_VALUES = {
    "notumor": "no tumour",
    "pituitary": "pituitary tumour",
    "CNV": "choroidal neovascularisation",
    "DME": "diabetic macular oedema",
    "DRUSEN": "drusen",
    "NORMAL": "normal",
}
_STEPS = {"detect": "Detection", "classify": "Classification", "segment": "Segmentation"}
_SOURCES = {"form": "the sender", "filename": "file name", "image": "look of the image"}
_MODALITIES = {"t1": "T1", "t1ce": "T1CE", "t2": "T2", "flair": "FLAIR"}


def number(value: float) -> str:
    """One decimal; a bound where that would turn something into nothing."""
    if 0 < abs(value) < _LEAST / 2:
        return f"< {_LEAST}" if value > 0 else f"> -{_LEAST}"
    return f"{value:.1f}"


def percent(probability: float) -> str:
    """A probability in percent with one decimal; never certainty that the model did not claim."""
    shown = probability * 100
    if 100 - _LEAST / 2 <= shown < 100:
        return f"> {100 - _LEAST} %"
    return f"{number(shown)} %"


def unit(ucum: str | None) -> str:
    """A UCUM unit as people write it; annotations such as {voxels} lose their braces."""
    return _UNITS.get(ucum or "", (ucum or "").strip("{}"))


def quantity(finding: FindingLine) -> str:
    """Number and unit, or a dash."""
    if finding.number is None:
        return NONE
    return f"{number(finding.number)} {unit(finding.unit)}".rstrip()


def plain(value: str) -> str:
    """A coded value in words."""
    return _VALUES.get(value, value)


def result(finding: FindingLine) -> str:
    """What was found: a quantity, a value in words, or a dash."""
    if finding.number is not None:
        return quantity(finding)
    return capital(plain(finding.value)) if finding.value else NONE


def chance(finding: FindingLine) -> str:
    """The finding's probability, or a dash."""
    return NONE if finding.probability is None else percent(finding.probability)


def step_title(name: str) -> str:
    """A pipeline step as a heading."""
    return _STEPS.get(name, capital(name))


def capital(text: str) -> str:
    """`text` with its first letter in upper case and the rest untouched."""
    return text[:1].upper() + text[1:]


def joined(text: str) -> str:
    """`text` with no line break between a number and its unit or percent sign."""
    return _BEFORE_UNIT.sub("\u00a0", text)


def small(text: str) -> str:
    """`text` for the middle of a sentence; abbreviations such as ET stay as they are."""
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def modality(name: str) -> str:
    """An MRI sequence as people write it."""
    return _MODALITIES.get(name, name)


def modalities(found: dict[str, Modality]) -> str:
    """The sequences of a study, with how each was recognised."""
    by_source: dict[str | None, list[str]] = {}
    for name, how in found.items():
        by_source.setdefault(how.source, []).append(modality(name))
    groups = (
        ", ".join(names) + (f" (by {_SOURCES.get(source, source)})" if source else "")
        for source, names in by_source.items()
    )
    return "; ".join(groups) or NONE


def metric(value: Metric) -> str:
    """A measured quality with three decimals, and what it was measured on."""
    cases = None if value.n is None else f"n = {value.n}"
    where = ", ".join(part for part in (value.split, cases) if part)
    measured = NONE if value.value is None else f"{value.value:.3f}"
    return f"{value.name} {measured}" + (f" ({where})" if where else "")


def accuracy(model: ModelLine) -> str:
    """A model's measured qualities in one line."""
    return "; ".join(metric(m) for m in model.metrics) or "accuracy not stated"


def moment(time: datetime) -> str:
    """A time to the minute, in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
