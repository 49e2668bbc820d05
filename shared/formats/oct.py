"""Vendors' OCT files, told from the beginning of the file."""

import re

from shared.errors import Invalid
from shared.formats.source import Source
from shared.formats.types import Format, Identified

_MULTIPLE = b"E2EMultipleVolumeFile"
_TOPCON = {b"FDA": "fda", b"FAA": "fda", b"FDS": "fds"}
_HEDX = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]{0,200}\?>)?\s*(<!--.{0,500}?-->\s*)?<HEDX[\s>]", re.DOTALL
)


def e2e_start(source: Source) -> int | None:
    """Where the first header of a Heidelberg .e2e file lies; None: it is none."""
    head = source.read(0, min(source.size, 68))
    start = 64 if head.startswith(_MULTIPLE) else 0
    return start if head[start : start + 4] == b"CMDb" else None


def oct_file(source: Source) -> Identified | None:
    """Heidelberg .e2e, .vol and XML, Topcon .fda and .fds."""
    head = source.read(0, min(source.size, 1024))
    start = e2e_start(source)
    if start is not None:
        if source.read(start + 36, 3) != b"MDb":
            raise Invalid(
                "The Heidelberg .e2e file has no directory where it must be; it is damaged or cut short."
            )
        return Identified(Format.E2E, "oct")
    if head[:8] == b"HSF-OCT-" or re.match(rb"ep-v\d+\.\d+", head):  # what eyepy writes for the version
        return Identified(Format.VOL, "oct")
    if head[:4] == b"FOCT" and head[4:7] in _TOPCON:
        return Identified(Format.TOPCON, "oct", details={"variant": _TOPCON[head[4:7]]})
    if _HEDX.match(head):
        needs = "A HEYEX XML export is the index of its pictures; send it with them in one .zip or .tar.gz."
        return Identified(Format.HEYEX_XML, "oct", needs=needs)
    return None
