"""The two clients: `AsyncClient` does the work, `Client` has the same methods for code that is not asynchronous."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

import anyio

from shared.client.api import AT_ONCE, Api
from shared.client.choosing import sources_of
from shared.client.errors import CallFailed
from shared.client.results import Page, Study, Upload
from shared.client.retries import Patience
from shared.client.sending import Sending, StudyFields
from shared.client.sources import File
from shared.client.studies import OnChange, Studies
from shared.client.submission import Submission
from shared.client.uploads import Uploads

T = TypeVar("T")
Paths = Path | str | Sequence[Path | str]


class AsyncClient:
    """One user of one server. Every method raises CallFailed."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        ca_file: Path | None = None,
        patience: Patience | None = None,
    ) -> None:
        """`token` is an access token or an API key; without one, log in. `ca_file` holds the certificates of whoever
        signed the server's, where that is nobody known. `patience` is for a server that is away for a while."""
        self._api = Api(url, token, ca_file, patience or Patience())
        self.studies = Studies(self._api)
        self.uploads = Uploads(self._api)

    async def login(self, name: str, password: str) -> None:
        """Log in by e-mail or username."""
        await self._api.login(name, password)

    async def register(self, email: str, password: str) -> None:
        """Make an account."""
        said = {"email": email, "password": password}
        await self._api.call("POST", "auth/register", AT_ONCE, json=said)

    async def submit(
        self, paths: Paths, sending: Sending | None = None, **fields: Unpack[StudyFields]
    ) -> Study:
        """Send files, or a folder such as a DICOM series, as one study."""
        how = sending or Sending()
        sources = await anyio.to_thread.run_sync(sources_of, _listed(paths), how)
        total = sum(source.size for source in sources)
        return await Submission(self._api, how, total).study(sources, fields)

    async def upload(self, path: Path | str, sending: Sending | None = None) -> Upload:
        """Send one file in parts, for a study that is made of it later."""
        how, source = sending or Sending(), File(Path(path))
        return await Submission(self._api, how, source.size).file(source)

    async def submit_mri(self, files: Sequence[Path], fields: Mapping[str, str]) -> Study:
        """Send a brain MRI by the older route `/process-mri`."""
        with ExitStack() as stack:
            try:
                parts = [("files", (path.name, stack.enter_context(path.open("rb")))) for path in files]
            except OSError as error:
                raise CallFailed(f"cannot read {error.filename}: {error.strerror}") from error
            answer = await self._api.call("POST", "process-mri", files=parts, data=dict(fields))
            return self._api.read(Study.read, answer)

    async def wait(
        self, study: Study | str, on_change: OnChange | None = None, seconds: float = 1800
    ) -> Study:
        """The study once it ended, or once it is clear that nothing analyses it; `on_change` sees it on the way."""
        return await self.studies.wait(study if isinstance(study, str) else study.id, on_change, seconds)

    async def download(self, path: str, target: Path) -> Path:
        """Save what a route answers, whole or not at all."""
        partial = target.with_name(f".{target.name}.part")
        async with self._api.stream(path) as response:
            try:
                async with await anyio.open_file(partial, "wb") as file:
                    async for block in response.aiter_bytes():
                        await file.write(block)
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
        return target

    async def close(self) -> None:
        """End the session that `login` began, if the server can be reached, and the connections."""
        await self._api.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hounsfield-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result. Whoever waits and is interrupted, by Ctrl-C say, ends the work with it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def settle(self) -> None:
        """Let what was interrupted come to its end."""
        self.run(self._others())

    def close(self) -> None:
        """End the thread."""
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _others(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=5)


class Client:
    """One user of one server. Every method raises CallFailed. To be closed, or used as `with Client(…) as client`.

    Callbacks are called in another thread.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        ca_file: Path | None = None,
        patience: Patience | None = None,
    ) -> None:
        """As `AsyncClient`."""
        self._client = AsyncClient(url, token, ca_file, patience)
        self._loop = _Loop()
        self.studies = SyncStudies(self._loop, self._client.studies)
        self.uploads = SyncUploads(self._loop, self._client.uploads)

    def login(self, name: str, password: str) -> None:
        """Log in by e-mail or username."""
        self._loop.run(self._client.login(name, password))

    def register(self, email: str, password: str) -> None:
        """Make an account."""
        self._loop.run(self._client.register(email, password))

    def submit(self, paths: Paths, sending: Sending | None = None, **fields: Unpack[StudyFields]) -> Study:
        """Send files, or a folder such as a DICOM series, as one study."""
        return self._loop.run(self._client.submit(paths, sending, **fields))

    def upload(self, path: Path | str, sending: Sending | None = None) -> Upload:
        """Send one file in parts, for a study that is made of it later."""
        return self._loop.run(self._client.upload(path, sending))

    def submit_mri(self, files: Sequence[Path], fields: Mapping[str, str]) -> Study:
        """Send a brain MRI by the older route `/process-mri`."""
        return self._loop.run(self._client.submit_mri(files, fields))

    def wait(self, study: Study | str, on_change: OnChange | None = None, seconds: float = 1800) -> Study:
        """The study once it ended, or once it is clear that nothing analyses it; `on_change` sees it on the way."""
        return self._loop.run(self._client.wait(study, on_change, seconds))

    def download(self, path: str, target: Path) -> Path:
        """Save what a route answers, whole or not at all."""
        return self._loop.run(self._client.download(path, target))

    def close(self) -> None:
        """End the session that `login` began, if the server can be reached, and the connections."""
        self._loop.settle()  # before the connections go that it uses
        self._loop.run(self._client.close())
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SyncStudies:
    """`Studies`, for code that is not asynchronous."""

    def __init__(self, loop: _Loop, studies: Studies) -> None:
        self._loop = loop
        self._studies = studies

    def get(self, id: str) -> Study:
        """A study with its files, task and results."""
        return self._loop.run(self._studies.get(id))

    def delete(self, id: str) -> None:
        """Remove a study with everything that was made of it."""
        self._loop.run(self._studies.delete(id))

    def wait(self, id: str, on_change: OnChange | None = None, seconds: float = 1800) -> Study:
        """The study once it ended, or is ingested and nothing analyses it."""
        return self._loop.run(self._studies.wait(id, on_change, seconds))

    def list(
        self,
        *,
        kind: str | None = None,
        status: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Study]:
        """Those that you may see, newest first."""
        return self._loop.run(self._studies.list(kind=kind, status=status, cursor=cursor, limit=limit))


class SyncUploads:
    """`Uploads`, for code that is not asynchronous: what is under way, and giving it up."""

    def __init__(self, loop: _Loop, uploads: Uploads) -> None:
        self._loop = loop
        self._uploads = uploads

    def get(self, id: str) -> Upload:
        """As it stands, with the parts that were received."""
        return self._loop.run(self._uploads.get(id))

    def abort(self, id: str) -> None:
        """Give it up, with what was sent of it."""
        self._loop.run(self._uploads.abort(id))

    def list(self, cursor: str | None = None) -> Page[Upload]:
        """Yours, newest first."""
        return self._loop.run(self._uploads.list(cursor))


def _listed(paths: Paths) -> list[Path]:
    listed = [paths] if isinstance(paths, str | Path) else paths
    if "" in listed:  # `Path` would make the current folder of it
        raise CallFailed("a path is empty; name at least one file or folder")
    return [Path(path) for path in listed]
