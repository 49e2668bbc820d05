"""Which series of a study is read, and why; the reasons name numbers only and are kept with the study.

ct: series of CT images that no finding forbids, in this order: original before derived, axial before other planes,
    more planes, thinner planes, no edge-enhancing kernel, lower series number. Scouts (LOCALIZER), secondary captures,
    dose reports, presentation states, RT objects, SR and segmentations are never chosen.
brain-mri: structural MR series, at most one for each of T1, T1CE, T2 and FLAIR: the surer one first, then original
    before derived, three-dimensional or thinner planes, more planes, lower series number.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shared.imaging.dicom.errors import UnusableSeries
from shared.imaging.dicom.findings import obliqueness
from shared.imaging.dicom.instance import SECONDARY_CAPTURE
from shared.imaging.dicom.mri import SequenceGuess, is_structural, sequence_of
from shared.imaging.dicom.series import Series
from shared.imaging.modality import MODALITIES

VolumeKind = Literal["ct", "brain-mri"]
AXIAL = 0.3
"""Planes turned by less than 45° from axial: 1 − cos 45°."""

_NO_IMAGES = {
    "SR": "is a structured report",
    "RTPLAN": "is a radiotherapy plan",
    "RTSTRUCT": "is a set of radiotherapy contours",
    "RTDOSE": "is a radiotherapy dose",
    "SEG": "is a segmentation",
    "PR": "is a presentation state",
    "KO": "is a key object note",
    "DOC": "is a document",
    "REG": "is a registration",
}
_SHARP = re.compile(r".*(?:BONE|LUNG|EDGE|SHARP|DETAIL).*|[BH][A-Z]?[5-9]\d.*|Y[A-D]", re.IGNORECASE)
"""Kernels that enhance edges, as GE, Siemens (B60f, Br59, Hr64 …) and Philips (YA–YD) name them."""


@dataclass(frozen=True)
class Chosen:
    """A series to make a volume of, the rule that chose it, and its sequence when it is an MR series."""

    series: Series
    reason: str
    sequence: SequenceGuess | None = None


@dataclass(frozen=True)
class PassedOver:
    """A series that is not used, and why."""

    series: Series
    reason: str


@dataclass(frozen=True)
class Choice:
    """What became of every series of a study."""

    chosen: tuple[Chosen, ...]
    passed_over: tuple[PassedOver, ...]


def choose(series: Sequence[Series], kind: VolumeKind) -> Choice:
    """The series of one study that a study of `kind` is made of.

    Raises UnusableSeries, with the reason of each series, when none will do.
    """
    fit: list[Series] = []
    passed: list[PassedOver] = []
    for one in series:
        reason = _unfit(one, kind)
        if reason:
            passed.append(PassedOver(one, reason))
        else:
            fit.append(one)
    chosen, worse = _choose_ct(fit) if kind == "ct" else _choose_mri(fit)
    passed += worse
    if not chosen:
        reasons = " ".join(f"{_label(over.series)} {over.reason}." for over in passed[:20])
        wanted = "CT images" if kind == "ct" else "T1, T1CE, T2 or FLAIR images"
        raise UnusableSeries(f"No series with usable {wanted} was found. {reasons}".rstrip())
    return Choice(tuple(chosen), tuple(passed))


def _unfit(series: Series, kind: VolumeKind) -> str | None:
    """Why a series is never chosen for `kind`."""
    head = series.head
    types = {*head.image_type, *(series.frames[0].image_type if series.slices else ())}
    if head.modality in _NO_IMAGES:
        return _NO_IMAGES[head.modality]
    if not series.slices:
        return "holds no images"
    if f"{head.sop_class}.".startswith(f"{SECONDARY_CAPTURE}."):
        return "is a secondary capture"
    if "LOCALIZER" in types:
        return "is a scout (LOCALIZER)"
    if head.modality != ("CT" if kind == "ct" else "MR"):
        return f"is of modality {head.modality}" if head.modality.isalpha() else "states no modality"
    if series.refusals:
        return f"cannot be used: {series.refusals[0].detail.rstrip('.')}"
    if kind == "brain-mri" and not is_structural(head):
        return "is no structural image (diffusion, perfusion, angiography, map or scout)"
    return None


def _choose_ct(fit: Sequence[Series]) -> tuple[list[Chosen], list[PassedOver]]:
    if not fit:
        return [], []
    best, *others = sorted(fit, key=_ct_rank)
    reason = (
        f"{_kind_of(best)} with {len(best.slices)} planes{_apart(best)}, "
        f"the first by the rules of {len(fit)} usable CT series"
    )
    return [Chosen(best, reason)], [PassedOver(one, _ct_loss(one, best)) for one in others]


def _choose_mri(fit: Sequence[Series]) -> tuple[list[Chosen], list[PassedOver]]:
    guessed = [(one, sequence_of(one.head)) for one in fit]
    passed = [
        PassedOver(one, "does not tell its sequence by description, contrast or timing")
        for one, guess in guessed
        if guess is None
    ]
    chosen: list[Chosen] = []
    for modality in MODALITIES:
        rivals = [(one, guess) for one, guess in guessed if guess and guess.modality == modality]
        rivals.sort(key=lambda rival: (-rival[1].confidence, *_mri_rank(rival[0])))
        for at, (one, guess) in enumerate(rivals):
            name = modality.upper()
            if at == 0:
                reason = (
                    f"{name} by its {guess.source}; {len(one.slices)} planes{_apart(one)}, "
                    f"the first by the rules of {len(rivals)} {name} series"
                )
                chosen.append(Chosen(one, reason, guess))
            else:
                passed.append(
                    PassedOver(one, f"is another {name} series; {_label(rivals[0][0])} comes first")
                )
    return chosen, passed


def _ct_rank(series: Series) -> tuple[object, ...]:
    """Less is better."""
    return (
        not _is_original(series),
        not _is_axial(series),
        -len(series.slices),
        series.spacing_mm or 0.0,
        _SHARP.fullmatch(series.head.kernel) is not None,
        series.head.series_number or 0,
        series.series_uid,
        series.stack,
    )


def _mri_rank(series: Series) -> tuple[object, ...]:
    return (
        not _is_original(series),
        series.head.acquisition_type != "3D",
        round(series.spacing_mm or 99.0, 2),
        -len(series.slices),
        series.head.series_number or 0,
        series.series_uid,
        series.stack,
    )


def _ct_loss(one: Series, best: Series) -> str:
    """The rule by which `one` lost."""
    rules = (
        "is derived, the chosen one original",
        "is not axial",
        f"has {len(one.slices)} planes, the chosen one {len(best.slices)}",
        "has thicker planes",
        "has an edge-enhancing kernel",
        "has a higher series number",
    )
    pairs = zip(_ct_rank(one), _ct_rank(best), rules, strict=False)
    return next((rule for mine, its, rule in pairs if mine != its), "is like the chosen one")


def _is_original(series: Series) -> bool:
    return series.head.image_type[:1] == ("ORIGINAL",)


def _is_axial(series: Series) -> bool:
    return obliqueness(series.frames[0]) <= AXIAL


def _kind_of(series: Series) -> str:
    return f"{'original' if _is_original(series) else 'derived'} {'axial' if _is_axial(series) else 'non-axial'} CT"


def _apart(series: Series) -> str:
    return f" {series.spacing_mm:.2f} mm apart" if series.spacing_mm else ""


def _label(series: Series) -> str:
    number = series.head.series_number
    part = f", stack {series.stack} of {series.stacks}," if series.stacks > 1 else ""
    return f"Series {'without number' if number is None else number}{part}"
