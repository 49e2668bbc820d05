"""HTTP of slides in parts."""

from typing import Annotated

from fastapi import APIRouter, Body, Response

from functions.upload.parts import service
from functions.upload.parts.schemas import FinishRequest, UploadRequest
from functions.upload.parts.sizes import count_parts, part_size
from functions.upload.slides.names import require_slide_name
from functions.upload.slides.schemas import PartUrl, SlideFinish, SlideFinished, SlideRequest, SlideStarted
from shared.db.models import Study
from shared.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge, Unauthenticated
from shared.http.access import StudiesWriter
from shared.http.deps import Unit
from shared.http.idempotency import IDEMPOTENT, Once
from shared.http.problems import problem_responses

router = APIRouter(
    tags=["slides"],
    responses=problem_responses(Unauthenticated, Forbidden, Invalid, NotFound, TooLarge, Conflict),
)
MOST_PARTS = 1000
"""All URLs are in one answer."""
_EXAMPLE = {"filename": "breast-17.svs", "size": 1_932_735_283}


@router.post(
    "/slides/upload/start", status_code=201, summary="Start the upload of a slide", responses=IDEMPOTENT
)
def start_slide(
    unit: Unit,
    user: StudiesWriter,
    response: Response,
    request: Annotated[SlideRequest, Body(openapi_examples={"a slide": {"value": _EXAMPLE}})],
    once: Once,
) -> SlideStarted:
    """PUT each part to its URL and keep the ETag of each answer. `GET /uploads/{upload_id}` tells which are there."""
    require_slide_name(request.filename)
    asked = UploadRequest.model_validate(
        {**request.model_dump(), "kind": "slide", "part_bytes": part_size(request.size, most=MOST_PARTS)}
    )
    upload = service.start(unit, user, asked)
    count = count_parts(upload.size, upload.part_bytes)
    signed = service.sign(unit, upload, range(1, count + 1))
    response.headers["Location"] = f"/api/uploads/{upload.id}"
    answer = SlideStarted(
        upload_id=upload.id,
        slide_id=None,
        part_size=upload.part_bytes,
        part_count=count,
        urls=[PartUrl(part_number=part.number, url=part.url) for part in signed],
        expires_at=signed[0].expires_at,
    )
    return once.keep(answer, response)


@router.post(
    "/slides/upload/finish",
    status_code=202,
    summary="Finish the upload of a slide",
    responses={200: {"model": SlideFinished, "description": "That was done before"}},
)
def finish_slide(unit: Unit, user: StudiesWriter, response: Response, request: SlideFinish) -> SlideFinished:
    """The file becomes a slide. May be repeated: the answer is the same."""
    upload = service.lock(unit, user, request.upload_id)
    if upload.kind != "slide":
        raise NotFound(f"no upload of a slide {request.upload_id}")
    changed = service.finish(unit, user, upload, FinishRequest(parts=request.parts))
    study = unit.session.get_one(Study, upload.study_id)
    response.status_code = 202 if changed else 200
    response.headers["Location"] = f"/api/slides/{study.id}"
    return SlideFinished(slide_id=study.id, study_id=study.id, status=study.status)
