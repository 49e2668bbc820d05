"""Answers in the DICOM JSON model (PS3.18 Annex F)."""

import json
import math
from typing import Any

from fastapi import Request, Response

from functions.dicom.web.accepts import accepted
from shared.errors import NotAcceptable

MEDIA_TYPE = "application/dicom+json"


def dicom_json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response of this type."""
    return Response(encode(content), status, headers, MEDIA_TYPE)


def require_json(request: Request) -> None:
    """Raise NotAcceptable where the client takes neither this type nor plain JSON."""
    takes = (one.takes(name) for one in accepted(request) for name in (MEDIA_TYPE, "application/json"))
    if not any(takes):
        raise NotAcceptable(f"this is to be had as {MEDIA_TYPE} only; accept that")


def encode(content: Any) -> bytes:
    """JSON; numbers that it has no words for become null."""
    try:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return json.dumps(_finite(content), allow_nan=False, separators=(",", ":")).encode()


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
