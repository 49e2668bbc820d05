"""The study routes."""

import time
from collections.abc import Callable
from urllib.parse import quote

import anyio

from shared.client.api import Api
from shared.client.errors import CallFailed
from shared.client.results import Page, Study

POLL_SECONDS = 0.5
QUIET_SECONDS = 15.0
"""An ingested study that nothing has begun to analyse by then is of a kind that nothing analyses."""
OnChange = Callable[[Study], None]


class Studies:
    """Studies of the server. Every method raises CallFailed."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def get(self, id: str) -> Study:
        """A study with its files, task and results."""
        return self._api.read(Study.read, await self._api.call("GET", f"studies/{quote(id, safe='')}"))

    async def delete(self, id: str) -> None:
        """Remove a study with everything that was made of it."""
        await self._api.call("DELETE", f"studies/{quote(id, safe='')}")

    async def wait(self, id: str, on_change: OnChange | None = None, seconds: float = 1800) -> Study:
        """The study once it ended, or is ingested and nothing analyses it. Raises CallFailed after `seconds`."""
        deadline, quiet, last = time.monotonic() + seconds, 0.0, None
        while True:
            study = await self.get(id)
            if on_change is not None and study != last:
                on_change(study)
            idle = study.status == "ingested" and study.task is None
            quiet = quiet + POLL_SECONDS if idle and study == last else 0.0
            if study.ended or quiet >= QUIET_SECONDS:
                return study
            if time.monotonic() > deadline:
                raise CallFailed(
                    f"study {id} is still {study.status} ({study.step or 'no step yet'}) after {seconds:.0f} s"
                )
            last = study
            await anyio.sleep(POLL_SECONDS)

    async def list(
        self,
        *,
        kind: str | None = None,
        status: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Study]:
        """Those that you may see, newest first."""
        query = {"kind": kind, "status": status, "cursor": cursor, "limit": str(limit)}
        given = {name: value for name, value in query.items() if value is not None}
        answer = await self._api.call("GET", "studies", params=given)
        return self._api.read(
            lambda page: Page(tuple(map(Study.read, page["items"])), page["next_cursor"]), answer
        )
