"""HTTP of uploads in parts."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Response

from functions.upload.parts import repository, service
from functions.upload.parts.schemas import (
    FinishRequest,
    PartOut,
    SignedParts,
    SignRequest,
    UploadOut,
    UploadRequest,
    UploadSummary,
)
from functions.upload.parts.sizes import count_parts
from shared.db.models import Upload
from shared.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge, Unauthenticated
from shared.http.access import StudiesReader, StudiesWriter
from shared.http.deps import Unit
from shared.http.idempotency import IDEMPOTENT, Once
from shared.http.paging import Page, PagingDep
from shared.http.problems import problem_responses
from shared.security.policy import Action

router = APIRouter(tags=["upload"], responses=problem_responses(Unauthenticated, Forbidden, Invalid))
MISSING = problem_responses(NotFound)
_EXAMPLE = {"filename": "abdomen.tar.gz", "size": 268_435_456, "kind": "ct"}


@router.post(
    "/uploads",
    status_code=201,
    summary="Start an upload in parts",
    responses={**problem_responses(NotFound, TooLarge), **IDEMPOTENT},
)
def start_upload(
    unit: Unit,
    user: StudiesWriter,
    response: Response,
    request: Annotated[UploadRequest, Body(openapi_examples={"a CT series": {"value": _EXAMPLE}})],
    once: Once,
) -> UploadOut:
    """Say what is to come. Then have its parts signed, PUT each to its URL, several at a time if you like, and finish.
    After a crash `GET /uploads/{id}` tells which parts are there."""
    upload = service.start(unit, user, request)
    response.headers["Location"] = f"/api/uploads/{upload.id}"
    return once.keep(_whole(service.State(upload, [])), response)


@router.get("/uploads", summary="Your uploads")
def list_uploads(unit: Unit, user: StudiesReader, paging: PagingDep) -> Page[UploadSummary]:
    """The newest first, without their parts; an administrator sees the tenant's. Those that ended are listed for a
    week."""
    rows, cursor = paging.fetch(unit.session, repository.visible(user, Action.STUDIES_READ), Upload.id)
    return Page(items=[_summary(upload) for upload in rows], next_cursor=cursor)


@router.get("/uploads/{id}", summary="An upload and its parts", responses=MISSING)
def get_upload(id: UUID, unit: Unit, user: StudiesReader) -> UploadOut:
    """`received` are the parts that need not be sent again."""
    return _whole(service.state_of(unit, service.find(unit, user, id, Action.STUDIES_READ)))


@router.post(
    "/uploads/{id}/parts",
    summary="Have parts signed",
    responses=problem_responses(NotFound, Conflict),
)
def sign_parts(id: UUID, unit: Unit, user: StudiesWriter, request: SignRequest) -> SignedParts:
    """A URL for each of the parts, to PUT its bytes to without any credential. A part that is sent again replaces the
    one before; a URL that has expired is signed again."""
    return SignedParts(parts=service.sign(unit, service.find(unit, user, id), request.numbers))


@router.post(
    "/uploads/{id}/finish",
    status_code=202,
    summary="Say that all parts were sent",
    responses={
        200: {"model": UploadOut, "description": "That was done before"},
        **problem_responses(NotFound, Conflict, TooLarge),
    },
)
def finish_upload(
    id: UUID, unit: Unit, user: StudiesWriter, response: Response, request: FinishRequest | None = None
) -> UploadOut:
    """The file becomes a study, unless `study` is false. With `parts`, each must be as the store received it; without,
    all that were received are taken. May be repeated: the answer is the same."""
    upload = service.lock(unit, user, id)
    changed = service.finish(unit, user, upload, request or FinishRequest())
    response.status_code = 202 if changed else 200
    if upload.study_id is not None:
        response.headers["Location"] = f"/api/studies/{upload.study_id}"
    return _whole(service.state_of(unit, upload))


@router.delete(
    "/uploads/{id}",
    status_code=204,
    summary="Give an upload up",
    responses=problem_responses(NotFound, Conflict),
)
def abort_upload(id: UUID, unit: Unit, user: StudiesWriter) -> None:
    """What was received of it is removed. Not once a study has it: delete that."""
    service.abort(unit, service.lock(unit, user, id))


def _whole(state: service.State) -> UploadOut:
    """Nothing that names the patient or the file: reading it is no access to patients' data."""
    upload, received = state.upload, state.received
    return UploadOut(
        **_summary(upload).model_dump(),
        received=[PartOut(number=part.number, etag=part.etag or None, size=part.size) for part in received],
        received_bytes=upload.size
        if service.status_of(upload) == "finished"
        else sum(part.size for part in received),
    )


def _summary(upload: Upload) -> UploadSummary:
    return UploadSummary(
        id=upload.id,
        status=service.status_of(upload),
        kind=upload.kind,
        size=upload.size,
        part_bytes=upload.part_bytes,
        part_count=count_parts(upload.size, upload.part_bytes),
        created_at=upload.created_at,
        expires_at=None if upload.study_id else upload.expires_at,
        study_id=upload.study_id,
    )
