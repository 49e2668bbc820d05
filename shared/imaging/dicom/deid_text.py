"""Texts that may mention someone: what identifies the people of a data set, and what of a description can be kept.

A descriptor (series description, protocol name …) is typed by hand, so a list of forbidden strings would miss what the
header does not say elsewhere: only words of `descriptor_words.txt`, numbers and technical terms are kept, and of those
none that is part of an identifier of the same data set.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

_SEPARATORS = re.compile(r"[\W_]+")
_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "å": "aa", "ø": "oe", "æ": "ae"})
_LEAST_OF_NUMBER: Final = 4
"""Shorter numbers in an address or department are everywhere."""
_LONGEST: Final = 4096
"""Bytes of a text that is looked at; the standard allows 64 characters for each of its values."""
_LEAST_INSIDE: Final = 5
"""An identifier this long is looked for inside words too."""

_WORD = re.compile(r"[0-9A-Za-z\udc80-\udcff]+(?:\.[0-9]+)*")
_SEPARATOR_RUN = re.compile(r"[^0-9A-Za-z+()]{2,}")
_TECHNICAL = re.compile(
    r"""
    \d{1,3}(\.\d{1,3})?                                                             # 5.0
    | \d{1,4}(\.\d{1,3})?(mm|cm|s|sec|ms|min|kv|kvp|ma|mas|t|hz|deg|ml|x|d|st|nd|rd|th)  # 3mm, 120kV, 3T, 3D
    | \d{1,3}x\d{1,3}(x\d{1,3})?                                                    # 256x256
    | b(\d{1,2}|\d{1,2}[05]|\d{1,2}00)[fsh]?                                        # b1000, B30f
    | (te|tr|ti|fa)\d{1,5}
    | (t[12]|pd)(w|c|ce|fl|fs)?
    | (c|d|e|f|h|i|j|l|p|q|s|t|th|u|br|bl|bf|bv|hc|hf|hk|hn|hp|hr|hs|hv|qr|sa|sb|sd|tb|ub|ur|fc)\d{1,2}[a-z]?
    | (ep|fl|ge|gre|se|spc|tfl|tir|tse)[234]d\d?                                    # sequences: tfl3d
    """,
    re.VERBOSE,
)
_DATE_IN_DESCRIPTOR = re.compile(
    r"(?<!\d)\d{1,4}([./-])\d{1,2}\1\d{1,4}(?!\d)|(?<![\d.])\d{1,4}(?:[ _]+\d{1,4}){2,}(?![\d.])"
)
"""A date, or three whole numbers in a row: a date or a telephone number."""
_DATE_IN_TEXT = re.compile(
    r"(?<!\d)(?:19|20)\d\d([./-]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?<!\d)\d{1,2}([./-])\d{1,2}\2(?:19|20)\d\d(?!\d)|(?<!\d)\d{1,2}([/-])\d{1,2}\3\d{2}(?!\d)"
)
_UID_IN_TEXT = re.compile(r"\d+(?:\.\d+){5,}")


def fold(text: str) -> str:
    """Lower case, without accents, in compatible forms: `Müller` and `MULLER` are the same."""
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def _words(folded: str) -> list[str]:
    return [word for word in _SEPARATORS.split(folded) if word]


@cache
def vocabulary() -> frozenset[str]:
    """Words of descriptors and code strings that say nothing of a person."""
    text = resources.files(__package__).joinpath("descriptor_words.txt").read_text(encoding="ascii")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.split())


@cache
def _generic() -> frozenset[str]:
    """Words that are no identifier by themselves, in the name of an institution."""
    text = resources.files(__package__).joinpath("institution_words.txt").read_text(encoding="ascii")
    return vocabulary() | frozenset(word for line in text.splitlines() for word in line.split())


def person_tokens(name: str) -> frozenset[str]:
    """What mentions a person: every part of the name that is longer than a letter, and how Germans spell it
    without their umlauts. An ideogram is a part by itself."""
    parts = {word for text in (name, name.casefold().translate(_GERMAN)) for word in _words(fold(text))}
    return frozenset(part for part in parts if len(part) > 1 or not part.isascii())


def identifier_tokens(text: str) -> frozenset[str]:
    """What mentions something that an identifier, place or institution is called by."""
    folded = fold(text)
    whole = _SEPARATORS.sub("", folded)
    words = {
        word
        for word in _words(folded)
        if word not in _generic() and len(word) >= (_LEAST_OF_NUMBER if word.isdecimal() else 3)
    }
    return frozenset(words | ({whole} if len(whole) > 2 and whole not in _generic() else set()))


@dataclass(frozen=True)
class Mentions:
    """Finds mentions of those whom a data set identifies. tokens: folded."""

    tokens: frozenset[str]

    def in_text(self, text: str) -> bool:
        """Whether any token is a word of `text`, or a long one stands anywhere in it, spaces and all."""
        folded = fold(text)
        words = _words(folded)
        if not self.tokens.isdisjoint(words):
            return True
        squeezed = "".join(words)
        return any(
            token in squeezed for token in self.tokens if len(token) >= _LEAST_INSIDE or not token.isascii()
        )

    def kept_text(self, value: bytes) -> bytes:
        """A short text, each of its values left out that mentions someone, a date or a UID, or is not plain ASCII.

        A value of nothing but known words is kept whoever bears one of them as a name: `HEAD` is a body part.
        """
        if len(value) > _LONGEST:
            return b""
        try:
            text = value.decode("ascii").strip(" \0")
        except UnicodeDecodeError:
            return b""
        if not text.isprintable():
            return b""
        kept = [part if self._is_kept(part) else "" for part in text.split("\\")]
        return "\\".join(kept).encode() if any(kept) else b""

    def _is_kept(self, text: str) -> bool:
        if vocabulary().issuperset(_words(text.casefold())):
            return True
        return not (_DATE_IN_TEXT.search(text) or _UID_IN_TEXT.search(text) or self.in_text(text))

    def cleaned_descriptor(self, value: bytes) -> bytes:
        """The known words of a description and the signs between them; b"" when no word is known."""
        if len(value) > _LONGEST or b"\x1b" in value:  # of ISO 2022: what follows looks like ASCII and is not
            return b""
        text = _DATE_IN_DESCRIPTOR.sub(" ", value.decode("ascii", "surrogateescape").strip(" \0"))
        kept = _WORD.sub(lambda word: word[0] if self._is_known(word[0]) else "", text)
        plain = "".join(
            char if char.isascii() and char.isprintable() and char != "\\" else " " for char in kept
        )
        tidy = _SEPARATOR_RUN.sub(lambda run: " " if " " in run[0] else run[0][0], plain).strip(
            " _-/,.;:^*=&#'\"<>|?!"
        )
        return tidy.encode() if _WORD.search(tidy) else b""

    def _is_known(self, word: str) -> bool:
        folded = word.casefold()
        return folded not in self.tokens and (folded in vocabulary() or bool(_TECHNICAL.fullmatch(folded)))
