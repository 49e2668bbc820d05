"""What a brain MRI task leaves behind, and finding the numbers that a text prints."""

import io
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any

from PIL import Image

from functions.reporting.content import Source, build_content
from functions.reporting.schemas import ReportContent
from shared.db.models import Artifact, Finding, InferenceTask, Study, TaskState
from shared.ids import uuid7

DETECTION, CLASSIFICATION, SEGMENTATION = (
    "brain-tumor-detection",
    "brain-tumor-classification",
    "brain-tumor-segmentation",
)
CREATED = datetime(2026, 3, 5, 9, 30, tzinfo=UTC)
NEEDS_ALL = "needs T1, T1CE, T2, FLAIR"
CLASSES = {"glioma": 0.9123, "meningioma": 0.0712, "notumor": 0.0161, "pituitary": 0.0004}
REGIONS = {"wt": ("Whole tumour", 45.23), "tc": ("Tumour core", 20.11), "et": ("Enhancing tumour", 12.349)}


def finding(name: str, model: str, display: str = "", **values: Any) -> Finding:
    """A finding of version 1 of a model."""
    return Finding(position=0, name=name, display=display or name, model=model, model_version="1", **values)


def detected(value: str = "yes", probability: float | None = 0.9734) -> Finding:
    """Whether a tumour is present."""
    return finding("tumour", DETECTION, "Tumour present", value=value, probability=probability)


def classified(classes: dict[str, float] = CLASSES) -> list[Finding]:
    """The tumour type and each class's probability."""
    best = max(classes, key=classes.__getitem__)
    return [
        finding("tumour-type", CLASSIFICATION, "Tumour type", value=best, probability=classes[best]),
        *(
            finding(f"type-probability-{name}", CLASSIFICATION, f"Probability: {name}", probability=chance)
            for name, chance in classes.items()
        ),
    ]


def segmented(scale: float = 1.0, diameter: float | None = 54.12) -> list[Finding]:
    """Volumes, and the diameter where there is one."""
    found = [
        finding(f"volume-{region}", SEGMENTATION, f"{name} volume", number=volume * scale, unit="mL")
        for region, (name, volume) in REGIONS.items()
    ]
    if diameter is not None:
        display = "Whole tumour, longest axial diameter"
        found.append(finding("diameter-wt", SEGMENTATION, display, number=diameter, unit="mm"))
    return found


def everything() -> list[Finding]:
    """All findings of the whole pipeline."""
    return [detected(), *classified(), *segmented()]


def steps(segment: bool = True) -> list[dict[str, Any]]:
    """The pipeline's account of its steps."""
    last = (
        {"name": "segment", "status": "done", "model": SEGMENTATION, "version": "1", "seconds": 9.5}
        if segment
        else {"name": "segment", "status": "skipped", "reason": NEEDS_ALL}
    )
    return [
        {"name": "choose-slices", "status": "done", "model": "hounsfield", "version": "1", "seconds": 0.2},
        {"name": "detect", "status": "done", "model": DETECTION, "version": "1", "seconds": 1.2},
        {"name": "classify", "status": "done", "model": CLASSIFICATION, "version": 1, "seconds": 0.8},
        last,
    ]


def results(segment: bool = True, **more: Any) -> dict[str, Any]:
    """`InferenceTask.results` as the inference function writes it."""
    names = ("t1", "t1ce", "t2", "flair") if segment else ("flair",)
    return {
        "steps": steps(segment),
        "modalities": {name: {"source": "filename", "confidence": 0.99} for name in names},
        "slice": {"modality": "flair", "index": 84},
        "warnings": [],
        **more,
    }


def task(**values: Any) -> InferenceTask:
    """A finished task."""
    return InferenceTask(
        **{
            "id": uuid7(),
            "study_id": uuid7(),
            "pipeline": "brain-mri",
            "state": TaskState.SUCCESS,
            "models": {DETECTION: "1", CLASSIFICATION: "1", SEGMENTATION: "1"},
            "results": results(),
            **values,
        }
    )


def source(
    findings: Sequence[Finding] = (),
    artifacts: Iterable[str] = (),
    filenames: Sequence[str] = (),
    patient_id: str = "P-0193",
    details: dict[str, Any] | None = None,
    **of_task: Any,
) -> Source:
    """A task with its study; `artifacts` are roles of PNG files."""
    made = task(**of_task)
    study = Study(
        id=made.study_id,
        kind="brain-mri",
        patient_id=patient_id,
        patient_name_sealed=b"sealed",
        scan_date=date(2024, 3, 5),
        details=details or {},
    )
    return Source(made, study, findings, [_png_artifact(role) for role in artifacts], filenames)


def content(findings: Sequence[Finding] = (), **more: Any) -> ReportContent:
    """The content of a report with these findings."""
    return build_content(source(findings, **more), uuid7(), CREATED)


def png(width: int = 300, height: int = 120) -> bytes:
    """A picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (30, 60, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def numbers(text: str) -> list[tuple[str, float, str]]:
    """Every (bound, number, unit) that stands alone in `text`, so not the 1 of T1 or of P-1."""
    pattern = r"(?:([<>])\s*)?(?<![\w.-])(-?\d+(?:\.\d+)?)\s?(%|mL|mm)?(?![\w-])"
    return [(bound, float(value), unit) for bound, value, unit in re.findall(pattern, text)]


def supported(printed: tuple[str, float, str], found: Iterable[Finding]) -> bool:
    """Whether a finding has this number: to half of its last digit, or beyond the bound that is printed."""
    bound, value, unit = printed
    for one in found:
        exact = one.number if unit in ("mL", "mm") else one.probability
        if exact is None or (unit in ("mL", "mm") and one.unit != unit):
            continue
        exact = exact * 100 if unit == "%" else exact
        if (bound == "<" and 0 < exact < value) or (bound == ">" and exact > value):
            return True
        if not bound and abs(exact - value) <= 0.05 + 1e-9:
            return True
    return False


def _png_artifact(role: str) -> Artifact:
    return Artifact(role=role, media_type="image/png", filename=f"{role}.png")
