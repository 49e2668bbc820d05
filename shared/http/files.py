"""Serving a stored file, to a browser too."""

import re
from typing import Annotated, Any, Protocol
from urllib.parse import quote

from fastapi import Header, Response
from fastapi.responses import StreamingResponse

from shared.storage.port import Bucket, Storage
from shared.storage.streams import blocks

IfNoneMatch = Annotated[str | None, Header(description="ETag of the copy that you have")]
CLOSED = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Content-Security-Policy: in a file that came from outside or was made from what did, nothing runs or is fetched."""


class StoredFile(Protocol):
    """What is known of a file beside its bytes; an Artifact row is one."""

    bucket: Any
    key: Any
    size: Any
    sha256: Any
    media_type: Any


def file_responses(media_type: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of a route that answers with `serve_file`."""
    return {200: {"content": {media_type: {}}}, 304: {"description": "The copy is current"}}


def serve_file(storage: Storage, file: StoredFile, filename: str, if_none_match: str | None) -> Response:
    """The file in blocks, or 304 when the caller's copy is current. Raises NotFound before anything is sent."""
    headers = {
        "ETag": f'"{file.sha256}"',
        "Cache-Control": "private, no-cache",  # may be kept by the browser, asked about each time
        "Content-Security-Policy": CLOSED,
    }
    if _names(if_none_match, file.sha256):
        return Response(status_code=304, headers=headers)
    headers |= {"Content-Length": str(file.size), "Content-Disposition": _inline(filename)}
    bucket: Bucket = file.bucket
    stream = storage.open(bucket, file.key)
    return StreamingResponse(blocks(stream), headers=headers, media_type=file.media_type)


def _names(if_none_match: str | None, sha256: str) -> bool:
    """Whether an If-None-Match header names this content (RFC 9110 §13.1.2, weak comparison)."""
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return "*" in tags or f'"{sha256}"' in tags


def _inline(filename: str) -> str:
    """A Content-Disposition value (RFC 6266)."""
    if re.fullmatch(r"[A-Za-z0-9._-]+", filename):
        return f'inline; filename="{filename}"'
    return f"inline; filename*=UTF-8''{quote(filename, safe='')}"
