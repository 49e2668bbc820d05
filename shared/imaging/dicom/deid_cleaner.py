"""Applies the rules to the elements of one patient's images."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from pydicom.dataelem import RawDataElement

from shared.imaging.dicom.deid_dates import capped_age, checked_times, shift_dates, shift_datetimes
from shared.imaging.dicom.deid_elements import Encoding, Nested, Node
from shared.imaging.dicom.deid_header import text_of
from shared.imaging.dicom.deid_pseudonyms import Pseudonyms
from shared.imaging.dicom.deid_rules import TEXTS, Action, Rule, rule_for
from shared.imaging.dicom.deid_text import Mentions, identifier_tokens, person_tokens

REMOVED: Final = b"REMOVED"
"""The dummy of texts."""
_MOST_CHANGES: Final = 10_000
_MOST_REMEMBERED: Final = 512
"""Bytes of a value."""
MOST_TOKENS: Final = 1000
_MOST_OF_NAME: Final = 1024
"""Bytes of a name or identifier that are read; the standard allows 64 characters, 324 for a name."""
_UID = re.compile(r"[0-9.]{1,64}")
_NUMBERS = re.compile(rb"[0-9+\-.eE \\\0]*")
_SEXES = (b"F", b"M", b"O")
_CHANGES: Final[dict[Action, Callable[[bytes], bytes]]] = {
    Action.TIME: checked_times,
    Action.NUMBER: lambda value: value if _NUMBERS.fullmatch(value) else b"",
    Action.AGE: capped_age,
    Action.SEX: lambda value: value.strip(b" \0") if value.strip(b" \0") in _SEXES else b"",
}
"""What depends on the value alone."""
_DUMMIES: Final = {
    "UR": b"http://removed.invalid",
    "AS": b"000Y",
    "DA": b"19000101",
    "DS": b"0",
    "DT": b"19000101",
    "IS": b"0",
    "TM": b"000000",
}


def tokens_of(nodes: Iterable[Node], charsets: tuple[str, ...], pseudonym: str) -> Iterator[str]:
    """What mentions those whom these elements identify, at any depth. What de-identification puts there does not."""
    ours = (REMOVED, pseudonym.encode("ascii"))
    for node in nodes:
        if isinstance(node, Nested):
            for item in node.items:
                yield from tokens_of(item, node.charsets, pseudonym)
        elif node.value and (rule := rule_for(int(node.tag), node.VR)).identifies:
            value = node.value[:_MOST_OF_NAME].rstrip(b" \0")
            if value not in ours:
                yield from _tokens(value, "PN" in (node.VR, rule.vr), charsets)


@lru_cache(maxsize=4096)
def _tokens(value: bytes, person: bool, charsets: tuple[str, ...]) -> frozenset[str]:
    """Of a value that is not ASCII also as UTF-8 and Latin-1, which many files are in without saying so."""
    texts = {text_of(value, charsets)}
    if not value.isascii():
        texts |= {value.decode("utf-8", "ignore"), value.decode("latin-1")}
    return frozenset().union(*((person_tokens if person else identifier_tokens)(text) for text in texts))


@dataclass
class Cleaner:
    """Cleans elements of images that identify the same people. days: by how many dates are moved.

    Most values are the same in each image of a series: what became of one is remembered.
    """

    pseudonyms: Pseudonyms
    mentions: Mentions
    days: int
    pseudonym: str
    _known: dict[tuple[int, str | None, bytes], bytes | None] = field(default_factory=dict)

    def cleaned(self, nodes: Iterable[Node], encoding: Encoding) -> Iterator[RawDataElement]:
        """What is kept of these elements."""
        for node in nodes:
            rule = rule_for(int(node.tag), node.vr if isinstance(node, Nested) else node.VR)
            if isinstance(node, Nested):
                yield from self._sequence(node, rule)
            elif rule.action is Action.KEEP:
                if not rule.length or len(node.value or b"") in (0, rule.length):
                    yield node
            elif rule.action is not Action.REMOVE:
                value = self._value(node, rule)
                if value is not None:
                    yield node if value == node.value else encoding.raw(node.tag, _vr(node, rule), value)

    def _sequence(self, node: Nested, rule: Rule) -> Iterator[RawDataElement]:
        """Any other action on a sequence than to empty it or to clean its items removes it."""
        if rule.action not in (Action.EMPTY, Action.ITEMS):
            return
        inner = node.encoding
        items = node.items if rule.action is Action.ITEMS else ()
        value = inner.items(
            b"".join(part for element in self.cleaned(item, inner) for part in inner.encoded(element))
            for item in items
        )
        yield inner.raw(node.tag, node.vr or "SQ", value)._replace(VR=node.vr)

    def _value(self, element: RawDataElement, rule: Rule) -> bytes | None:
        """The value that takes its place; None: the element goes."""
        value = element.value or b""
        if len(value) > _MOST_REMEMBERED:
            return self._changed(value, rule)
        key = (int(element.tag), element.VR, value)
        if key not in self._known:
            if len(self._known) >= _MOST_CHANGES:
                self._known.clear()
            self._known[key] = self._changed(value, rule)
        return self._known[key]

    def _changed(self, value: bytes, rule: Rule) -> bytes | None:
        """The value, or what is done where nothing of it may stay; a value of no length says nothing, and stays."""
        kept = self._kept(value, rule)
        if kept or not value.strip(b" \0"):
            return kept
        if rule.otherwise is Action.REMOVE:
            return None
        return _dummy(rule.vr, len(value)) if rule.otherwise is Action.DUMMY else b""

    def _kept(self, value: bytes, rule: Rule) -> bytes:
        if rule.action in _CHANGES:
            return _CHANGES[rule.action](value)
        match rule.action:
            case Action.DUMMY:
                return _dummy(rule.vr, len(value))
            case Action.PSEUDONYM:
                return self.pseudonym.encode("ascii")
            case Action.UID | Action.CLASS_UID:
                return self._uids(value, rule.action is Action.CLASS_UID)
            case Action.DATE:
                return shift_dates(value, self.days)
            case Action.DATETIME:
                return shift_datetimes(value, self.days)
            case Action.DESCRIPTOR:
                return self.mentions.cleaned_descriptor(value)
            case Action.TEXT:
                return self.mentions.kept_text(value)
        return b""

    def _uids(self, value: bytes, classes: bool) -> bytes:
        """Each UID's replacement; a class of objects keeps its UID wherever that comes from."""
        uids = value.decode("ascii", "surrogateescape").split("\\")
        return "\\".join(self._uid(uid.strip(" \0"), classes) for uid in uids).encode("ascii")

    def _uid(self, uid: str, classes: bool) -> str:
        return uid if classes and _UID.fullmatch(uid) else self.pseudonyms.uid(uid)


def _vr(element: RawDataElement, rule: Rule) -> str:
    """What a text is, where the file does not say."""
    return rule.vr.split(" or ")[0] if element.VR in (None, "UN") else str(element.VR)


def _dummy(vr: str, length: int) -> bytes:
    """A value that fits the value representation and says nothing; numbers and bytes keep their length."""
    if vr in TEXTS - {"UR"}:
        return REMOVED
    return _DUMMIES.get(vr, bytes(max(length, 2)))
