"""The folder store's signed URLs, on one machine. On S3 the store serves its own."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from shared.errors import BadRequest, Conflict, Forbidden, NotFound, TooLarge, Unavailable
from shared.http.access import public
from shared.http.blocks import write_blocks
from shared.http.deps import ServicesDep
from shared.http.files import PartDep, part_responses
from shared.http.problems import problem_responses
from shared.runtime import Services
from shared.security.keys import key_store
from shared.storage.checksums import Checksums
from shared.storage.folder import FolderStorage
from shared.storage.part_writer import PartWriter
from shared.storage.port import PartBusy
from shared.storage.signing import Grant, UrlSigner, attachment
from shared.storage.streams import blocks

router = APIRouter(tags=["storage"], prefix="/storage")
SIGNED = "the URL is signed, for one object and a short time"
SIGNING = "storage-urls"
"""Purpose under which the signing secret is derived."""
BINARY = "application/octet-stream"
BUSY_SECONDS = 5.0
"""How long a part waits for the end of an earlier request with the same part, whose client is perhaps gone."""


def url_signer(services: Services) -> UrlSigner:
    """Verifies what the folder store signed."""
    keys = services.once(key_store)
    return UrlSigner(lambda: keys.secrets(SIGNING))


@router.get(
    "/{bucket}/{key:path}",
    responses=problem_responses(Forbidden, NotFound, Unavailable) | part_responses(BINARY),
    response_class=StreamingResponse,
)
@public(SIGNED)
def read_object(bucket: str, key: str, request: Request, services: ServicesDep, part: PartDep) -> Response:
    """Read an object, or one part of it, by a signed URL."""
    store = _folder(services)
    grant = services.once(url_signer).verify("GET", bucket, key, request.query_params)
    ref = store.head(grant.bucket, grant.key)
    etag = ref.etag or ""
    wanted = part.of(ref.size, etag)
    start, length = wanted or (0, ref.size)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(length),
        # A stored file is somebody's upload: a browser must never take it for a page of this origin.
        "Content-Security-Policy": "sandbox",
        "ETag": f'"{etag}"',
    }
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{ref.size}"
    if grant.filename:
        headers["Content-Disposition"] = attachment(grant.filename)
    media_type = store.media_type(grant.bucket, grant.key) or BINARY
    stream = store.open(grant.bucket, grant.key)
    stream.seek(start)
    return StreamingResponse(
        blocks(stream, length),
        status_code=206 if wanted else 200,
        headers=headers,
        media_type=media_type,
        background=BackgroundTask(stream.close),  # also when the client goes before the first block
    )


@router.put(
    "/{bucket}/{key:path}",
    responses=problem_responses(BadRequest, Forbidden, NotFound, Conflict, TooLarge, Unavailable),
)
@public(SIGNED)
async def write_part(bucket: str, key: str, request: Request, services: ServicesDep) -> Response:
    """Send one part of a multipart upload to its signed URL; its ETag is in the answer.

    Content-MD5 and x-amz-checksum-sha256 are checked where they are sent.
    """
    store = _folder(services)
    grant = services.once(url_signer).verify("PUT", bucket, key, request.query_params)
    checksums = Checksums(request.headers)

    async with _receiving(store, grant, _declared(request)) as writer:

        def write(block: memoryview) -> None:
            writer.write(block)
            checksums.update(block)

        await write_blocks(request, write)
        checksums.check()
        part = await run_in_threadpool(writer.finish)
    return Response(headers={"ETag": f'"{part.etag}"'})


@asynccontextmanager
async def _receiving(store: FolderStorage, grant: Grant, declared: int) -> AsyncIterator[PartWriter]:
    """The part's writer, as soon as nobody else writes that part. Raises UploadNotFound, PartBusy, TooLarge."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            writer = await run_in_threadpool(store.receive_part, grant.upload_id, grant.number, declared)
            break
        except PartBusy as error:
            if time.monotonic() > deadline:
                error.headers["Retry-After"] = "5"
                raise
        await asyncio.sleep(0.1)
    try:
        yield writer
    finally:
        if not writer.is_closed:
            await run_in_threadpool(writer.close)


def _declared(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdigit() else 0


def _folder(services: Services) -> FolderStorage:
    if not isinstance(services.storage, FolderStorage):
        raise NotFound("this deployment's objects are served by its object store, not here")
    return services.storage
