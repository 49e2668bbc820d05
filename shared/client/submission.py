"""How files become a study: in one request while they are small, else in parts that can be resumed."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from anyio import to_thread

from shared.client.api import Api
from shared.client.errors import CallFailed, FileChanged
from shared.client.results import Study, Upload
from shared.client.resume import Memory, Remembered
from shared.client.sending import Meter, Sending, StudyFields
from shared.client.sources import Source
from shared.client.transfer import Transfer, hash_of
from shared.client.uploads import Uploads

ONE_REQUEST_BYTES = 32 << 20
"""Files of this size together go in one request, which starts anew when it is cut off."""
IN_PARTS_BYTES = 8 << 20
"""Of files that do not, those above this size go in parts."""


@dataclass(frozen=True)
class Item:
    """One thing to send, and what is said of it when its upload starts."""

    source: Source
    fields: Mapping[str, object] = field(default_factory=dict)


class Submission:
    """The sending of one study."""

    def __init__(self, api: Api, sending: Sending, total: int) -> None:
        if not 1 <= sending.parallel <= 64:
            raise CallFailed(f"1 to 64 parts can be under way at once, not {sending.parallel}")
        self._api = api
        self._uploads = Uploads(api)
        self._sending = sending
        self._memory = Memory(sending.state_dir)
        self._meter = Meter(total, sending)

    async def study(self, sources: Sequence[Source], fields: StudyFields) -> Study:
        """Send all of it, and make it a study. Raises CallFailed."""
        modalities = _modalities(fields, len(sources))
        said = _said(fields)
        if sum(source.size for source in sources) <= ONE_REQUEST_BYTES:
            return await self._post(said, sources, modalities, [])
        if len(sources) == 1 and "name" not in said:
            return await self._of_one(Item(sources[0], said | _modality(modalities[0])))
        return await self._of_several(sources, modalities, said)

    async def file(self, source: Source) -> Upload:
        """Send one file in parts, for a study that is made later. Raises CallFailed."""
        item = Item(source)
        upload = await self._upload(item, study=False)
        self._forget([item])
        return upload

    async def _upload(self, item: Item, *, study: bool) -> Upload:
        remembered = await self._recall(item) if self._sending.resume else None
        upload = await self._known(item, remembered) if remembered else None
        if upload is None or remembered is None:
            if not self._sending.resume:
                await self._tell_of_former(item)
            upload, remembered = await self._start(item)
        if upload.status != "open":
            self._meter.skip(upload.size)
            return await self._uploads.finish(upload.id, study=study, sha256=remembered.sha256)
        transfer = Transfer(self._api, item.source, upload, self._meter, self._sending.parallel)
        sha256 = await transfer.run(remembered.sha256)
        if await to_thread.run_sync(item.source.fingerprint) != remembered.fingerprint:
            raise _changed(item.source)
        self._remember(item, replace(remembered, sha256=sha256))
        return await self._uploads.finish(upload.id, study=study, sha256=sha256)

    async def _of_one(self, item: Item) -> Study:
        upload = await self._upload(item, study=True)
        self._forget([item])
        return self._api.read(
            Study.read, {"id": upload.study_id, "status": "receiving", "kind": item.fields.get("kind")}
        )

    async def _of_several(
        self, sources: Sequence[Source], modalities: Sequence[str], said: dict[str, str]
    ) -> Study:
        kind = {"kind": said["kind"]} if "kind" in said else {}
        items, small, small_modalities = [], [], []
        for source, modality in zip(sources, modalities, strict=True):
            if source.size > IN_PARTS_BYTES:
                items.append(Item(source, kind | _modality(modality)))
            else:
                small.append(source)
                small_modalities.append(modality)
        uploads = [await self._upload(item, study=False) for item in items]
        known = {upload.study_id for upload in uploads}
        if None in known:
            study = await self._post(said, small, small_modalities, [upload.id for upload in uploads])
        else:  # an earlier run was stopped after its last request
            study = self._api.read(Study.read, {"id": known.pop(), "status": "receiving"})
        self._forget(items)
        return study

    async def _post(
        self,
        said: Mapping[str, str],
        sources: Sequence[Source],
        modalities: Sequence[str],
        uploads: Sequence[str],
    ) -> Study:
        texts = [*said.items(), *(("uploads", upload_id) for upload_id in uploads)]
        if any(modalities):
            texts.append(("modalities", ",".join(modalities)))
        parts: list[tuple[str, Any]] = [(name, (None, text)) for name, text in texts]
        for source in sources:
            content = await to_thread.run_sync(_content, source)
            parts.append(("files", (source.name, content, "application/octet-stream")))
        once = {"Idempotency-Key": str(uuid.uuid4())}
        study = self._api.read(Study.read, await self._api.call("POST", "studies", files=parts, headers=once))
        self._meter.add(sum(source.size for source in sources))
        return study

    async def _recall(self, item: Item) -> Remembered | None:
        """What is remembered of the file, if it is still the same file."""
        remembered = self._memory.recall(self._api.address, item.source, item.fields)
        if remembered is None:
            self._sending.note(f"nothing of {item.source.path} was sent before with these options")
            return None
        if await to_thread.run_sync(item.source.fingerprint) != remembered.fingerprint:
            self._sending.note(f"{item.source.path} changed since it was sent in part; it is sent anew")
            return None
        return remembered

    async def _known(self, item: Item, remembered: Remembered) -> Upload | None:
        """The upload as the server has it; None where it was given up there."""
        try:
            upload = await self._uploads.get(remembered.upload_id)
        except CallFailed as error:
            if error.status != 404:
                raise
            upload = None
        if upload is None or upload.status not in ("open", "finished"):
            self._sending.note(
                f"the server has given up what was sent of {item.source.path}; it is sent anew"
            )
            return None
        return upload

    async def _tell_of_former(self, item: Item) -> None:
        """Of the same file, begun by a run that was cut off: the server keeps it for some days, with all that was sent."""
        remembered = self._memory.recall(self._api.address, item.source, item.fields)
        if remembered is None or await to_thread.run_sync(item.source.fingerprint) != remembered.fingerprint:
            return
        try:
            former = await self._uploads.get(remembered.upload_id)
        except CallFailed as error:
            if error.status != 404:
                raise
            return
        if former.status == "open":
            sent = sum(former.received.values())
            self._sending.note(
                f"{sent:,} of {former.size:,} bytes of {item.source.path} were sent before; it is sent anew, where "
                f"--resume would have gone on with them. DELETE {self._api.address}/api/uploads/{former.id} gives them up"
            )

    async def _start(self, item: Item) -> tuple[Upload, Remembered]:
        source = item.source
        fingerprint = await to_thread.run_sync(source.fingerprint)
        if fingerprint.size != source.size:
            raise _changed(source)
        sha256 = await hash_of(source) if self._sending.hash_first else None
        declared = {"sha256": sha256} if sha256 else {}
        upload = await self._uploads.start(
            source.name, source.size, str(uuid.uuid4()), **item.fields, **declared
        )
        remembered = Remembered(self._api.address, upload.id, fingerprint, sha256)
        self._remember(item, remembered)
        return upload, remembered

    def _remember(self, item: Item, remembered: Remembered) -> None:
        try:
            self._memory.keep(item.source, item.fields, remembered)
        except OSError as error:
            self._sending.note(f"this upload cannot be resumed later: {error.filename}: {error.strerror}")

    def _forget(self, items: Sequence[Item]) -> None:
        for item in items:
            self._memory.forget(self._api.address, item.source, item.fields)


def _content(source: Source) -> bytes:
    """All of it. Raises FileChanged where somebody still writes to it."""
    before = source.fingerprint()
    content = b"".join(source.blocks(0, source.size))
    if before.size != source.size or source.fingerprint() != before:
        raise _changed(source)
    return content


def _changed(source: Source) -> FileChanged:
    return FileChanged(f"{source.path} changed while it was sent; send it anew")


def _said(fields: StudyFields) -> dict[str, str]:
    """What was said, as form fields, without the sequences."""
    texts = {name: value for name, value in fields.items() if name not in ("modalities", "duplicate")}
    said = {name: str(value) for name, value in texts.items() if value}
    return said | ({"duplicate": "true"} if fields.get("duplicate") else {})


def _modality(modality: str) -> dict[str, str]:
    return {"modality": modality} if modality else {}


def _modalities(fields: StudyFields, count: int) -> list[str]:
    given = [text.strip().lower() for text in fields.get("modalities") or []]
    if given and len(given) != count:
        raise CallFailed(f"modalities: one is needed for each file, so {count}, not {len(given)}")
    return given or [""] * count
