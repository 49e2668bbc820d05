"""The upload routes."""

from typing import Any
from urllib.parse import quote

from shared.client.api import Api
from shared.client.errors import CallFailed
from shared.client.results import Page, Upload


class Uploads:
    """Uploads in parts, as the server keeps them. Every method raises CallFailed."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def start(self, filename: str, size: int, key: str, **fields: Any) -> Upload:
        """Begin one. With the same `key` the same upload is answered again."""
        about = {"filename": filename, "size": size, **fields}
        return self._read(
            await self._api.call("POST", "uploads", json=about, headers={"Idempotency-Key": key})
        )

    async def get(self, id: str) -> Upload:
        """As it stands, with the parts that were received."""
        return self._read(await self._api.call("GET", f"uploads/{quote(id, safe='')}"))

    async def sign(self, id: str, numbers: list[int]) -> dict[int, str]:
        """URLs to PUT these parts to."""
        answer = await self._api.call(
            "POST", f"uploads/{quote(id, safe='')}/parts", json={"numbers": numbers}
        )
        urls = self._api.read(
            lambda signed: {int(part["number"]): str(part["url"]) for part in signed["parts"]}, answer
        )
        if missing := set(numbers) - urls.keys():
            raise CallFailed(f"the server gave no URL for part {min(missing)}")
        return urls

    async def finish(self, id: str, *, study: bool, sha256: str | None) -> Upload:
        """Everything was sent; `study` makes a study of it. Asked again, it answers the same."""
        about = {"study": study, **({"sha256": sha256} if sha256 else {})}
        return self._read(await self._api.call("POST", f"uploads/{quote(id, safe='')}/finish", json=about))

    async def abort(self, id: str) -> None:
        """Give it up, with what was sent of it."""
        await self._api.call("DELETE", f"uploads/{quote(id, safe='')}")

    async def list(self, cursor: str | None = None) -> Page[Upload]:
        """Yours, newest first."""
        query = {"cursor": cursor} if cursor else {}
        answer = await self._api.call("GET", "uploads", params=query)
        return self._api.read(
            lambda page: Page(tuple(map(Upload.read, page["items"])), page["next_cursor"]), answer
        )

    def _read(self, answer: dict[str, Any]) -> Upload:
        return self._api.read(Upload.read, answer)
