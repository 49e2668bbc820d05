"""Which MRI sequence a file is: what the form says, else its name, else a careful look at the image."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import log
from typing import Literal

from shared.errors import Invalid
from shared.imaging.modality_from_image import image_probabilities
from shared.imaging.volume import Volume

Modality = Literal["t1", "t1ce", "t2", "flair"]
MODALITIES: tuple[Modality, ...] = ("t1", "t1ce", "t2", "flair")
Named = tuple[str, str | None, Volume | Callable[[], Volume] | None]
"""File name, what the form says (if anything), the image if there is one, or how to read it: that is done only
where neither form nor name tells, and one image at a time."""

FILENAME_CONFIDENCE = 0.95
LEAST_CONFIDENCE = 0.4
ASK = "say which sequence it is with the form field 'modalities' (t1, t1ce, t2 or flair)"

_PLANE = r"(?:ax|axial|cor|coronal|sag|sagittal|tra)?"
_CONTRAST = r"(?:ce|c|gd|gad|gado|gadolinium|post|postcontrast|contrast|km)"
_PATTERNS: tuple[tuple[Modality, re.Pattern[str]], ...] = (
    ("flair", re.compile(rf"{_PLANE}(?:t2w?)?flair|t2f")),
    ("t1ce", re.compile(rf"{_PLANE}(?:t1(?:w|wi)?|mprage){_CONTRAST}w?")),
    ("t1", re.compile(rf"{_PLANE}t1(?:w|wi|n)?|(?:mp2?rage|spgr)")),
    ("t2", re.compile(rf"{_PLANE}t2(?:w|wi|tse|fse)?")),
)
_CONTRAST_WORD = re.compile(rf"{_CONTRAST}|enhanced|gadovist|magnevist")
_NO_CONTRAST = {"pre", "precontrast", "noncontrast", "non", "no", "without", "unenhanced", "native", "plain"}
_NO_SCAN = {"seg", "segmentation", "mask", "label", "map", "star", "dwi", "adc", "swi", "dti", "bold"}


@dataclass(frozen=True)
class ModalityGuess:
    """The sequence, how it was told, and the chance (0–1) that it is right."""

    modality: Modality
    source: Literal["form", "filename", "image"]
    confidence: float


def modality_from_filename(filename: str) -> Modality | None:
    """The one sequence that `filename` names as a whole word; None when it names none or several."""
    words = re.findall(r"[a-z0-9]+", _stem(filename))
    if _NO_SCAN & set(words):
        return None
    named = {_of_word(word) for word in words} - {None}
    if "flair" in named:
        named.discard("t2")  # "T2 FLAIR" is a FLAIR
    contrast = any(map(_CONTRAST_WORD.fullmatch, words)) and _NO_CONTRAST.isdisjoint(words)
    if "t1" in named and contrast:
        named = (named - {"t1"}) | {"t1ce"}
    return named.pop() if len(named) == 1 else None


def find_modality(filename: str, declared: str | None, volume: Volume | None) -> ModalityGuess:
    """The sequence of one file. Raises Invalid when it cannot be told or the form names an unknown one."""
    return assign_modalities([(filename, declared, volume)])[0]


def assign_modalities(files: Sequence[Named]) -> list[ModalityGuess]:
    """A distinct sequence for each of 1–4 files of one study, in their order.

    Files told by form or name come first; the rest share out the remaining sequences so that their joint
    likelihood is greatest. Raises Invalid on duplicates, on too many files and when an image does not tell.
    """
    if not 1 <= len(files) <= len(MODALITIES):
        raise Invalid(f"A brain study has 1 to 4 sequences (T1, T1CE, T2, FLAIR); {len(files)} files came.")
    told = [_told(name, declared) for name, declared, _ in files]
    _check_distinct([guess.modality for guess in told if guess])
    untold = [volume for guess, (_, _, volume) in zip(told, files, strict=True) if guess is None]
    from_images = iter(_share_out(untold, {guess.modality for guess in told if guess}))
    return [guess or next(from_images) for guess in told]


def _told(filename: str, declared: str | None) -> ModalityGuess | None:
    if declared is not None and declared.strip():
        modality = modality_from_filename(declared)
        if modality is None:
            raise Invalid("The form names an unknown sequence; use t1, t1ce, t2 or flair.")
        return ModalityGuess(modality, "form", 1.0)
    named = modality_from_filename(filename)
    return ModalityGuess(named, "filename", FILENAME_CONFIDENCE) if named else None


def _check_distinct(modalities: Sequence[Modality]) -> None:
    twice = [modality for modality, count in Counter(modalities).items() if count > 1]
    if twice:
        raise Invalid(
            f"Several files are called {twice[0].upper()}; send one file per sequence, "
            "or tell them apart with the form field 'modalities'."
        )


def _share_out(
    volumes: Sequence[Volume | Callable[[], Volume] | None], taken: set[Modality]
) -> list[ModalityGuess]:
    """The likeliest distinct sequences for the images that nothing else tells, from those not `taken`."""
    if not volumes:
        return []
    free = [modality for modality in MODALITIES if modality not in taken]
    if None in volumes:
        raise Invalid(f"The file name does not tell the sequence; {ASK}.")
    looks = [
        image_probabilities(volume() if callable(volume) else volume)
        for volume in volumes
        if volume is not None
    ]
    best = max(
        permutations(free, len(looks)),
        key=lambda order: sum(log(look[m]) for look, m in zip(looks, order, strict=True)),
    )
    guesses = [ModalityGuess(m, "image", round(look[m], 2)) for look, m in zip(looks, best, strict=True)]
    if min(guess.confidence for guess in guesses) < LEAST_CONFIDENCE:
        raise Invalid(f"Neither the file name nor the image tells the sequence clearly; {ASK}.")
    return guesses


def _of_word(word: str) -> Modality | None:
    return next((modality for modality, pattern in _PATTERNS if pattern.fullmatch(word)), None)


def _stem(filename: str) -> str:
    name = re.split(r"[/\\]", filename)[-1].lower()
    return re.sub(r"\.(nii|nii\.gz|dcm|zip|tar\.gz)$", "", name)
