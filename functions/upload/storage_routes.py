"""The folder store's signed URLs, on one machine. On S3 the store serves its own."""

from tempfile import TemporaryFile

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from shared.errors import Forbidden, NotFound
from shared.http.access import public
from shared.http.deps import ServicesDep
from shared.http.problems import problem_responses
from shared.runtime import Services
from shared.security.keys import key_store
from shared.storage.folder import FolderStorage
from shared.storage.signing import UrlSigner, attachment
from shared.storage.streams import blocks

router = APIRouter(tags=["storage"], prefix="/storage")
SIGNED = "the URL is signed, for one object and a short time"
SIGNING = "storage-urls"
"""Purpose under which the signing secret is derived."""


def url_signer(services: Services) -> UrlSigner:
    """Verifies what the folder store signed."""
    keys = services.once(key_store)
    return UrlSigner(lambda: keys.secrets(SIGNING))


@router.get("/{bucket}/{key:path}", responses=problem_responses(Forbidden, NotFound))
@public(SIGNED)
def read_object(bucket: str, key: str, request: Request, services: ServicesDep) -> Response:
    """Read an object by a signed URL."""
    store = _folder(services)
    grant = services.once(url_signer).verify("GET", bucket, key, request.query_params)
    ref = store.head(grant.bucket, grant.key)
    # A stored file is somebody's upload: a browser must never take it for a page of this origin.
    headers = {"Content-Length": str(ref.size), "Content-Security-Policy": "sandbox"}
    if grant.filename:
        headers["Content-Disposition"] = attachment(grant.filename)
    media_type = store.media_type(grant.bucket, grant.key) or "application/octet-stream"
    return StreamingResponse(
        blocks(store.open(grant.bucket, grant.key)), headers=headers, media_type=media_type
    )


@router.put("/{bucket}/{key:path}", responses=problem_responses(Forbidden, NotFound))
@public(SIGNED)
async def write_part(bucket: str, key: str, request: Request, services: ServicesDep) -> Response:
    """Send one part of a multipart upload to its signed URL; its ETag is in the answer."""
    store = _folder(services)
    grant = services.once(url_signer).verify("PUT", bucket, key, request.query_params)
    with TemporaryFile() as file:
        async for block in request.stream():
            await run_in_threadpool(file.write, block)
        file.seek(0)
        part = await run_in_threadpool(store.put_part, grant.upload_id, grant.number, file)
    return Response(headers={"ETag": f'"{part.etag}"'})


def _folder(services: Services) -> FolderStorage:
    if not isinstance(services.storage, FolderStorage):
        raise NotFound("this deployment's objects are served by its object store, not here")
    return services.storage
