"""What a client accepts: media types with their parameters, multipart ones by what is in their parts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import Request

ANY = "*/*"
_PART = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*")+')
_PARAMETER = re.compile(r';\s*([\w-]+)\s*=\s*("(?:\\.|[^"\\])*"|[^;,\s]*)')


@dataclass(frozen=True)
class Accepted:
    """One media type. type: of the parts where it is multipart; syntax: a transfer syntax, `*`, or None: not said."""

    type: str
    multipart: bool
    syntax: str | None
    quality: float

    def takes(self, media_type: str) -> bool:
        """Whether a part, or a body, of this type will do."""
        kind = media_type.partition("/")[0]
        return self.type in (ANY, media_type, f"{kind}/*")


def accepted(request: Request) -> list[Accepted]:
    """What the request accepts, best first; everything where it does not say. `?accept=` overrules the header."""
    said = request.query_params.get("accept") or ",".join(request.headers.getlist("accept"))
    found = sorted(_parsed(said), key=lambda one: -one.quality)
    return [one for one in found if one.quality > 0] if said.strip() else [Accepted(ANY, True, "*", 1.0)]


def _parsed(header: str) -> Iterator[Accepted]:
    for part in _PART.findall(header):
        name = part.partition(";")[0].strip().lower()
        parameters = {key.lower(): value.strip('"') for key, value in _PARAMETER.findall(part)}
        multipart = name == "multipart/related"
        if not name:
            continue
        media_type = parameters.get("type", ANY).lower() if multipart else name
        syntax = parameters.get("transfer-syntax")
        if name == ANY:
            multipart, syntax = True, syntax or "*"
        yield Accepted(media_type, multipart, syntax, _quality(parameters.get("q", "1")))


def _quality(text: str) -> float:
    return float(text) if re.fullmatch(r"[01](\.\d{0,3})?", text) else 1.0
