"""Serving a stored file, to a browser too; whole, or the part of it that is asked for (RFC 9110 §14)."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Protocol
from urllib.parse import quote

from fastapi import Depends, Header, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from shared.errors import RangeNotSatisfiable
from shared.http.problems import problem_responses
from shared.storage.port import Bucket, Storage
from shared.storage.streams import blocks

IfNoneMatch = Annotated[str | None, Header(description="ETag of the copy that you have")]
CLOSED = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Content-Security-Policy: in a file that came from outside or was made from what did, nothing runs or is fetched."""
PART_BLOCK = 4 << 20
"""Bytes of a part that are read at a time: each reading is a request to the store."""


class StoredFile(Protocol):
    """What is known of a file beside its bytes; an Artifact row is one."""

    bucket: Any
    key: Any
    size: Any
    sha256: Any
    media_type: Any


class Part:
    """The `Range` and `If-Range` headers: which part of a file is wanted, and of which state of it."""

    def __init__(
        self,
        wanted: Annotated[
            str | None, Header(alias="Range", description="one part of the file, such as bytes=0-1023")
        ] = None,
        if_range: Annotated[
            str | None, Header(description="ETag of the state that the part must be of; else all is sent")
        ] = None,
    ) -> None:
        self._range = wanted
        self._if_range = if_range

    def of(self, size: int, sha256: str) -> tuple[int, int] | None:
        """Where the part begins and how long it is; None for the whole file, as for what we do not understand and for
        several parts at once. Raises RangeNotSatisfiable."""
        found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", (self._range or "").strip())
        if found is None or not any(found.groups()) or self._if_range not in (None, f'"{sha256}"'):
            return None
        first, last = found.groups()
        if first and last and int(first) > int(last):
            return None
        start = int(first) if first else max(0, size - int(last))
        end = min(size, int(last) + 1) if first and last else size
        if start >= end:
            raise RangeNotSatisfiable(
                f"the file has {size} bytes, numbered from 0", headers={"Content-Range": f"bytes */{size}"}
            )
        return start, end - start


PartDep = Annotated[Part, Depends(Part)]


def file_responses(media_type: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of a route that answers with `serve_file`."""
    return {200: {"content": {media_type: {}}}, 304: {"description": "The copy is current"}}


def part_responses(media_type: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of a route that answers with `serve_file` and takes a part."""
    part = {"description": "The part that was asked for", "content": {media_type: {}}}
    return {**file_responses(media_type), 206: part, **problem_responses(RangeNotSatisfiable)}


def serve_file(
    storage: Storage, file: StoredFile, filename: str, if_none_match: str | None, part: Part | None = None
) -> Response:
    """The file in blocks, a part of it, or 304 when the caller's copy is current.

    Raises NotFound, before anything is sent, and RangeNotSatisfiable.
    """
    headers = {
        "ETag": f'"{file.sha256}"',
        "Cache-Control": "private, no-cache",  # may be kept by the browser, asked about each time
        "Content-Security-Policy": CLOSED,
    }
    if _names(if_none_match, file.sha256):
        return Response(status_code=304, headers=headers)
    headers |= {"Content-Disposition": _inline(filename)}
    if part is not None:
        headers |= {"Accept-Ranges": "bytes"}
        if (wanted := part.of(file.size, file.sha256)) is not None:
            return _partial(storage, file, wanted, headers)
    headers |= {"Content-Length": str(file.size)}
    bucket: Bucket = file.bucket
    stream = storage.open(bucket, file.key)
    return StreamingResponse(
        blocks(stream), headers=headers, media_type=file.media_type, background=BackgroundTask(stream.close)
    )


def _partial(
    storage: Storage, file: StoredFile, wanted: tuple[int, int], headers: dict[str, str]
) -> Response:
    start, length = wanted
    bucket: Bucket = file.bucket
    first = storage.read_range(bucket, file.key, start, min(length, PART_BLOCK))  # NotFound is raised here

    def body() -> Iterator[bytes]:
        yield first
        for offset in range(start + PART_BLOCK, start + length, PART_BLOCK):
            yield storage.read_range(bucket, file.key, offset, min(PART_BLOCK, start + length - offset))

    headers |= {
        "Content-Length": str(length),
        "Content-Range": f"bytes {start}-{start + length - 1}/{file.size}",
    }
    return StreamingResponse(body(), 206, headers=headers, media_type=file.media_type)


def _names(if_none_match: str | None, sha256: str) -> bool:
    """Whether an If-None-Match header names this content (RFC 9110 §13.1.2, weak comparison)."""
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return "*" in tags or f'"{sha256}"' in tags


def _inline(filename: str) -> str:
    """A Content-Disposition value (RFC 6266)."""
    if re.fullmatch(r"[A-Za-z0-9._-]+", filename):
        return f'inline; filename="{filename}"'
    return f"inline; filename*=UTF-8''{quote(filename, safe='')}"
