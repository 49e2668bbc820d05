"""What a member may be called. Nothing is written under these names; later steps group and list by them."""

import re
import unicodedata

from shared.archives.errors import BadArchive
from shared.archives.limits import ArchiveLimits

_CONTROLS = ("Cc", "Zl", "Zp")
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # make a name read as another
_METADATA = (".ds_store", "thumbs.db", "icon\r")


class Names:
    """The names of one archive: each safe, none twice."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self._limits = limits
        self._seen: set[str] = set()

    def check(self, raw: str, number: int) -> str:
        """The path without empty and `.` parts; "" for the root folder."""
        limits = self._limits
        if not raw:
            raise BadArchive(f"Member {number} has no name.")
        if len(raw) > limits.path_length:
            raise BadArchive(
                f"The path of member {number} is longer than {limits.path_length} characters; shorten the folder names."
            )
        _check_characters(raw, number)
        if raw.startswith("/") or re.match("[A-Za-z]:", raw):
            raise BadArchive(f"Member {number} has an absolute path; pack with paths relative to the folder.")
        parts = [part for part in raw.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise BadArchive(
                f"The path of member {number} climbs out of its folder by '..'; pack from inside it."
            )
        if len(parts) > limits.path_depth:
            raise BadArchive(
                f"Member {number} lies more than {limits.path_depth} folders deep; pack fewer folders in each other."
            )
        return "/".join(parts)

    def claim(self, name: str, number: int) -> None:
        """Refuses a second file of the name, in whatever letter case."""
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in self._seen:
            raise BadArchive(
                f"Member {number} has the name of an earlier one (letter case aside); pack each file once."
            )
        self._seen.add(folded)


def is_metadata(name: str) -> bool:
    """Whether a desktop wrote the file for itself (macOS, Windows)."""
    *folders, last = name.split("/")
    return "__MACOSX" in folders or last.startswith("._") or last.casefold() in _METADATA


def _check_characters(raw: str, number: int) -> None:
    if "\\" in raw:
        raise BadArchive(f"The path of member {number} holds a backslash; folders are told apart by '/'.")
    shown = raw.removesuffix("Icon\r")  # the Finder's, passed over later
    if shown.isprintable():
        return
    for character in shown:
        category = unicodedata.category(character)
        if category == "Cs":
            raise BadArchive(f"The name of member {number} cannot be decoded; it must be UTF-8.")
        if category in _CONTROLS or character in _BIDI:
            raise BadArchive(f"The name of member {number} holds control characters; rename the file.")
