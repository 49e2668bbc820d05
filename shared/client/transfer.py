"""Sending the parts of one upload, several at a time, while the file's hash is computed beside it."""

import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import httpx
from anyio import to_thread

from shared.client.api import Api
from shared.client.errors import CallFailed, NoAnswer
from shared.client.parts import Part, Plan, missing_parts
from shared.client.results import Upload
from shared.client.retries import AWAY
from shared.client.sending import Meter
from shared.client.sources import Source
from shared.client.uploads import Uploads

FRESH_URLS = 4
"""How many URLs a part may use up before that is an error: one may expire while it waits."""
BUSY = AWAY | {httpx.codes.CONFLICT}
"""The folder store takes a part from one request at a time; a lost one may hold it for some seconds."""
AHEAD_BYTES = 256 << 20
"""How far the hash may be ahead of the sending: what it read should still be in memory when it is sent."""


class Transfer:
    """One upload, from whatever was received of it to its last part."""

    def __init__(self, api: Api, source: Source, upload: Upload, meter: Meter, workers: int) -> None:
        self._api = api
        self._uploads = Uploads(api)
        self._source = source
        self._upload = upload
        self._meter = meter
        self._workers = workers
        missing = missing_parts(upload)
        meter.skip(upload.size - sum(part.size for part in missing))
        self._plan = Plan(missing, workers, upload.size)

    async def run(self, sha256: str | None) -> str:
        """Send what is missing; returns the file's SHA-256, computed where it is not given. Raises CallFailed."""
        found = [sha256] if sha256 else []

        async def hash_it() -> None:
            found.append(await hash_of(self._source, lambda: self._plan.reached + AHEAD_BYTES))

        await together(*[self._work] * self._workers, *([] if sha256 else [hash_it]))
        return found[0]

    async def _work(self) -> None:
        while parts := self._plan.take():
            urls = await self._uploads.sign(self._upload.id, [part.number for part in parts])
            for part in parts:
                await self._send(part, urls[part.number])

    async def _send(self, part: Part, url: str) -> None:
        for _ in range(FRESH_URLS):
            response = await self._api.patiently(_Tries(self, part, url), BUSY)
            if not _is_stale(response):
                break
            url = (await self._uploads.sign(self._upload.id, [part.number]))[part.number]
        if not response.is_success:
            raise CallFailed(
                f"the store refused part {part.number} with {response.status_code}{_reason(response)}",
                status=response.status_code,
                passing=response.status_code in BUSY,
            )
        if not response.headers.get("ETag"):
            raise CallFailed(
                f"the store took part {part.number} without naming its ETag; is a proxy between?"
            )

    async def find(self, part: Part) -> bool:
        """Whether the store has the part."""
        upload = await self._uploads.get(self._upload.id)
        if upload.received.get(part.number) != part.size:
            return False
        self._meter.add(part.size)
        return True

    async def put(self, part: Part, url: str) -> httpx.Response:
        """One try. What was counted of a try that failed is taken back."""
        sent = [0]
        success = False
        # The URL is signed: whoever holds it may use it, and a store refuses requests with a second credential.
        length = {"Content-Length": str(part.size)}
        request = self._api.http.build_request("PUT", url, content=self._content(part, sent), headers=length)
        try:
            with self._api.errors(request.url):
                response = await self._api.http.send(request, auth=None)
            success = response.is_success
            return response
        finally:
            if not success:
                self._meter.add(-sent[0])

    async def _content(self, part: Part, sent: list[int]) -> AsyncIterator[bytes]:
        async for block in read(self._source, part.offset, part.size):
            yield block
            sent[0] += len(block)
            self._meter.add(len(block))


class _Tries:
    """The tries of one part. One whose answer was lost may have arrived: then it is not sent again."""

    def __init__(self, transfer: Transfer, part: Part, url: str) -> None:
        self._transfer = transfer
        self._part = part
        self._url = url
        self._lost = False

    async def __call__(self) -> httpx.Response:
        if self._lost and await self._transfer.find(self._part):
            return httpx.Response(httpx.codes.OK, headers={"ETag": "known"})
        try:
            return await self._transfer.put(self._part, self._url)
        except NoAnswer as error:
            self._lost = error.sent
            raise


async def read(source: Source, offset: int, length: int) -> AsyncIterator[bytes]:
    """A source's bytes, without holding up the event loop while the disk works. Raises CallFailed."""
    blocks = source.blocks(offset, length)
    while block := await to_thread.run_sync(next, blocks, b""):
        yield block


async def hash_of(source: Source, allowed: Callable[[], int] | None = None) -> str:
    """Hex SHA-256 of all of it, read in order and never beyond the offset that is `allowed` just now."""
    digest, done = hashlib.sha256(), 0
    async for block in read(source, 0, source.size):
        await to_thread.run_sync(digest.update, block)
        done += len(block)
        while allowed is not None and done > allowed():
            await anyio.sleep(0.05)
    return digest.hexdigest()


async def together(*jobs: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run all at once. The first that fails ends the others, and its error is raised."""
    try:
        async with anyio.create_task_group() as group:
            for job in jobs:
                group.start_soon(job)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _is_stale(response: httpx.Response) -> bool:
    """Whether another URL may help: this one has expired, or S3 tired of waiting for the next byte."""
    return response.status_code == httpx.codes.FORBIDDEN or "RequestTimeout" in _reason(response)


def _reason(response: httpx.Response) -> str:
    """The code of an S3 error, such as NoSuchUpload; nothing where there is none."""
    _, found, rest = response.text.partition("<Code>")
    code = rest.partition("</Code>")[0]
    return f" ({code})" if found and code.isalnum() else ""
