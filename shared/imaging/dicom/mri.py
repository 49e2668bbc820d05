"""Which MRI sequence a series is: what its description says, the contrast agent, and the timing.

TR, TE and TI are in ms. The timing windows hold at 1.5 and 3 T and are meant for the head:
FLAIR nulls fluid (TI ≥ 1,500 with TE ≥ 60); T2 has TE ≥ 60, TR ≥ 1,800 and no inversion; T1 is spin echo with
TE ≤ 30 and TR ≤ 1,200, anything inverted at TI 500–1,400 with TE ≤ 30 (MPRAGE, T1 FLAIR), or a spoiled gradient echo
with TE ≤ 10, TR ≤ 30 and a flip angle of 8° or more (SPGR).
"""

import re
from dataclasses import dataclass
from typing import Literal

from shared.imaging.dicom.instance import Instance
from shared.imaging.modality import Modality, modality_from_filename

Source = Literal["description", "contrast", "timing"]

DESCRIPTION_CONFIDENCE = 0.9
AGREED_CONFIDENCE = 0.95
DISPUTED_CONFIDENCE = 0.6
TIMING_CONFIDENCE = 0.7

_NO_STRUCTURE = re.compile(
    r"(?<![a-z])(?:loc(?:alizer)?|scout|survey|aahscout|calib\w*|shim|dwi|dti|diff\w*|adc|trace\w*|b\d{3,4}|swi|swan|"
    r"t2 ?star|gre|hemo|fieldmap|mra|tof|mip|minip|perf\w*|dsc|dce|asl|cbf|cbv|mtt|ttp|bold|fmri|resting|csi|mrs|"
    r"spectro\w*|sub(?:traction)?|stir|pd|proton|fiesta|ciss)(?![a-z])"
)
_ABSENT_AGENTS = re.compile(r"(?:no|none|non|without|n/?a|ohne|not .*|0|nil|-+|keine?s?)\b.*|", re.IGNORECASE)
_PRE_CONTRAST = re.compile(
    r"(?<![a-z])(?:pre|pre ?contrast|non ?contrast|unenhanced|native?|without|w/?o|plain)(?![a-z])"
)
_DERIVED = {
    "ADC",
    "DIFFUSION",
    "PERFUSION",
    "PROJECTION IMAGE",
    "MIP",
    "LOCALIZER",
    "SUBTRACTION",
    "MPR_CURVED",
}


@dataclass(frozen=True)
class SequenceGuess:
    """The sequence, what told it, and the chance (0–1) that it is right."""

    modality: Modality
    source: Source
    confidence: float


def is_structural(head: Instance) -> bool:
    """Whether a series can be an ordinary image of the anatomy: no localizer, diffusion, perfusion, angiography, map."""
    words = _words(head)
    if _DERIVED & set(head.image_type) or _NO_STRUCTURE.search(words):
        return False
    return "EP" not in head.scanning_sequence and not head.b_value


def sequence_of(head: Instance) -> SequenceGuess | None:
    """The sequence of the series with the header `head`; None when nothing tells or it is none of the four."""
    if not is_structural(head):
        return None
    timed = sequence_from_timing(head)
    described = _described(head)
    if described is None:
        if timed == "t1" and has_contrast(head):
            return SequenceGuess("t1ce", "contrast", TIMING_CONFIDENCE)
        return SequenceGuess(timed, "timing", TIMING_CONFIDENCE) if timed else None
    confidence = _confidence(described, timed)
    if described == "t1" and has_contrast(head) and not _PRE_CONTRAST.search(_words(head)):
        return SequenceGuess("t1ce", "contrast", min(confidence, DESCRIPTION_CONFIDENCE))
    return SequenceGuess(described, "description", confidence)


def has_contrast(head: Instance) -> bool:
    """Whether the header names a contrast agent (0018,0010) or (0018,0012); some scanners write NONE or NO there."""
    return _ABSENT_AGENTS.fullmatch(head.contrast_agent.strip()) is None


def sequence_from_timing(head: Instance) -> Modality | None:
    """T1, T2 or FLAIR by TR, TE and TI alone; None where they do not tell."""
    repetition, echo, inversion = head.repetition_ms, head.echo_ms, head.inversion_ms or 0.0
    if echo is None or repetition is None or "EP" in head.scanning_sequence:
        return None
    if inversion >= 1500 and echo >= 60:
        return "flair"
    if echo >= 60 and repetition >= 1800 and inversion < 100:  # STIR inverts, too
        return "t2"
    if echo <= 30 and 500 <= inversion <= 1400:
        return "t1"
    if "GR" in head.scanning_sequence and echo <= 10 and repetition <= 30 and (head.flip_deg or 0) >= 8:
        return "t1"
    return "t1" if "GR" not in head.scanning_sequence and echo <= 30 and 100 <= repetition <= 1200 else None


def _confidence(described: Modality, timed: Modality | None) -> float:
    if timed is None:
        return DESCRIPTION_CONFIDENCE
    return AGREED_CONFIDENCE if timed == described.removesuffix("ce") else DISPUTED_CONFIDENCE


def _described(head: Instance) -> Modality | None:
    """The first of description, protocol and sequence name that names one sequence."""
    for text in (head.series_description, head.protocol, head.sequence_name):
        named = modality_from_filename(_spaced(text)) if text else None
        if named:
            return named
    return None


def _words(head: Instance) -> str:
    return _spaced(f"{head.series_description} {head.protocol}")


def _spaced(text: str) -> str:
    """Lower case, with what joins words made spaces; `T1+C` says contrast."""
    text = re.sub(r"\+ ?(?:c|gd|km|contrast)\b|\+(?!\w)", " gd ", text.lower())
    return " ".join(re.findall(r"[a-z0-9]+", text.replace("w/o", "without").replace("t2*", "t2star")))
