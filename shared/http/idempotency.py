"""`Idempotency-Key`: a request that makes something, sent again because its answer was lost, makes it once.

A route takes `once: Once` as its last parameter and returns `once.keep(answer, response)`. The first answer is kept for a
day in the transaction of what it tells of, so that a crash leaves both or neither; the same request under the same key
gets it again, with the header `Idempotency-Replayed: true`. What was refused is not kept: it may be tried again.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import delete, func, select, text
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from shared.db.models import IdempotencyKey
from shared.db.tenants import tenant_ids
from shared.errors import Conflict, Invalid
from shared.http.deps import CurrentUser, Unit
from shared.http.problems import problem_responses
from shared.runtime import Services, UnitOfWork
from shared.runtime.unit import unit_of_work

KEPT = timedelta(hours=24)
HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
IDEMPOTENT = problem_responses(Conflict, Invalid)
"""OpenAPI entries of a route that takes a key."""
_TRY_LOCK = text("select pg_try_advisory_xact_lock(hashtextextended(:key, 1))")
_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_BLOCK = 1 << 20

Answer = TypeVar("Answer", bound=BaseModel)
KeyHeader = Annotated[
    str | None,
    Header(
        alias=HEADER,
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="any text that no other request of yours has, such as a UUID: the same request sent again with it "
        "within a day makes nothing new and gets the first answer again",
    ),
]


class KeyInUse(Conflict):
    """The first request under this key is still being answered."""

    slug, title = "idempotency-key-in-use", "The first request is under way"


class KeyReused(Invalid):
    """Another request was sent under this key before."""

    slug, title = "idempotency-key-reused", "Another request had this key"


class Replay(Exception):
    """Not an error: the answer that the same request got before is to be sent again."""

    def __init__(self, status: int, location: str | None, answer: dict[str, Any] | None) -> None:
        super().__init__("the same request was answered before")
        self.response = JSONResponse(answer, status, headers={REPLAYED: "true"})
        if location is not None:
            self.response.headers["Location"] = location


@dataclass(frozen=True)
class Keyed:
    """What is asked for under a key. request_hash: SHA-256."""

    key: str
    request_hash: bytes


class OnceOnly:
    """Keeps what a route answers, where the caller gave a key."""

    def __init__(self, unit: UnitOfWork, row: IdempotencyKey | None, status: int) -> None:
        """`status` is the route's own, where it says no other."""
        self._unit = unit
        self._row = row
        self._status = status

    def keep(self, answer: Answer, response: Response) -> Answer:
        """Remember the answer as it is sent: `response` has its Location, and its status if it is not the route's."""
        if self._row is not None:
            self._row.status = response.status_code or self._status
            self._row.location = response.headers.get("location")
            self._row.answer = answer.model_dump(mode="json", by_alias=True)
            self._unit.session.add(self._row)
        return answer


async def keyed(request: Request, key: KeyHeader = None) -> Keyed | None:
    """The caller's key and what is asked for under it; None without a key.

    Of a form, fields and files count, not how they are packed; of JSON, the values, not how they are written.
    """
    if key is None:
        return None
    digest = hashlib.sha256()
    query = sorted(request.query_params.multi_items())
    digest.update(json.dumps([request.method, request.url.path, query]).encode())
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() in _FORMS:
        await run_in_threadpool(_feed_form, digest, await request.form())
    else:
        digest.update(_canonical(await request.body()))
    return Keyed(key, digest.digest())


def only_once(
    request: Request,
    unit: Unit,
    user: CurrentUser,
    asked: Annotated[Keyed | None, Depends(keyed)],
) -> Iterator[OnceOnly]:
    """What keeps the answer. Raises Replay, KeyInUse, KeyReused."""
    status = request.scope["route"].status_code or 200
    if asked is None:
        yield OnceOnly(unit, None, status)
        return
    key_hash = hashlib.sha256(asked.key.encode()).digest()
    lock = f"idempotency:{user.tenant_id}:{user.user_id}:{key_hash.hex()}"
    if not unit.session.scalar(_TRY_LOCK, {"key": lock}):
        raise KeyInUse(
            f"a request with this {HEADER} is being answered just now; ask again in a moment",
            headers={"Retry-After": "1"},
        )
    _replay(unit, user.user_id, key_hash, asked.request_hash)
    mine = {"tenant_id": user.tenant_id, "user_id": user.user_id}
    yield OnceOnly(unit, IdempotencyKey(key_hash=key_hash, request_hash=asked.request_hash, **mine), status)


Once = Annotated[OnceOnly, Depends(only_once, scope="function")]


def install_replays(api: FastAPI) -> None:
    """Have the application send kept answers."""
    api.add_exception_handler(Replay, _send_again)


def clean_idempotency_keys(services: Services) -> int:
    """Forget answers older than a day; returns how many."""
    return sum(_clean(services, tenant_id) for tenant_id in tenant_ids(services.database))


def _clean(services: Services, tenant_id: UUID) -> int:
    with unit_of_work(services, tenant_id) as unit:
        old = delete(IdempotencyKey).where(IdempotencyKey.created_at < func.now() - KEPT)
        return len(unit.session.scalars(old.returning(IdempotencyKey.id)).all())


def _replay(unit: UnitOfWork, user_id: UUID, key_hash: bytes, asked: bytes) -> None:
    mine = (IdempotencyKey.user_id == user_id, IdempotencyKey.key_hash == key_hash)
    unit.session.execute(delete(IdempotencyKey).where(*mine, IdempotencyKey.created_at < func.now() - KEPT))
    before = unit.session.scalar(select(IdempotencyKey).where(*mine))
    if before is None:
        return
    if before.request_hash != asked or before.status is None:
        raise KeyReused(
            f"another request was sent with this {HEADER} before; give each its own, and the same one only to "
            "the same request"
        )
    # In a transaction of its own: the request's is rolled back, because the route does not run.
    with unit_of_work(unit.services, unit.tenant_id, unit.actor) as noting:
        noting.audit("request.replay", details={"status": before.status, "location": before.location})
    raise Replay(before.status, before.location, before.answer)


def _send_again(_request: Request, replay: Exception) -> JSONResponse:
    assert isinstance(replay, Replay)
    return replay.response


def _canonical(body: bytes) -> bytes:
    """JSON in one spelling; anything else as it is."""
    try:
        return json.dumps(json.loads(body), sort_keys=True).encode()
    except (ValueError, RecursionError):
        return body


def _feed_form(digest: "hashlib._Hash", form: FormData) -> None:
    for name, value in form.multi_items():
        content = _file_hash(value) if isinstance(value, UploadFile) else value
        filename = value.filename if isinstance(value, UploadFile) else None
        digest.update(json.dumps([name, filename, content]).encode())


def _file_hash(file: UploadFile) -> str:
    digest = hashlib.sha256()
    while block := file.file.read(_BLOCK):
        digest.update(block)
    file.file.seek(0)
    return digest.hexdigest()
