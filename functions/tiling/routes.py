"""HTTP of the tiling function."""

from collections.abc import Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from functions.tiling import service
from functions.tiling.open_slides import StoredSlide
from shared.errors import Forbidden, Invalid, NotFound, Unauthenticated, Unavailable, UnsupportedImage
from shared.http.access import StudiesReader
from shared.http.deps import ServicesDep, address_of
from shared.http.files import IfNoneMatch, file_responses
from shared.http.problems import problem_responses
from shared.security.audit import Actor

JPEG, XML = "image/jpeg", "application/xml"
router = APIRouter(
    prefix="/viewer",
    tags=["viewer"],
    responses=problem_responses(Unauthenticated, Forbidden, NotFound, UnsupportedImage, Invalid, Unavailable),
    default_response_class=Response,
)


def looked_at(slide: UUID, request: Request, services: ServicesDep, user: StudiesReader) -> StoredSlide:
    """The slide of the path, if the caller may see it; recorded as looked at."""
    return service.find_slide(services, user, Actor.of(user, address_of(request)), slide, audited=True)


def found(slide: UUID, request: Request, services: ServicesDep, user: StudiesReader) -> StoredSlide:
    """The same, not recorded."""
    return service.find_slide(services, user, Actor.of(user, address_of(request)), slide, audited=False)


LookedAt = Annotated[StoredSlide, Depends(looked_at)]
Found = Annotated[StoredSlide, Depends(found)]
Width = Annotated[int, Query(ge=16, le=1024, description="pixels; a very tall slide comes narrower")]


@router.get("/{slide}.dzi", responses=file_responses(XML))
def get_description(stored: LookedAt, services: ServicesDep, if_none_match: IfNoneMatch = None) -> Response:
    """The slide's Deep Zoom description: its size, in tiles of 512 pixels without overlap."""
    etag = service.etag_of(stored)
    return _answer(etag, if_none_match, lambda: service.describe(services, stored).encode(), XML)


@router.get("/{slide}_files/{level}/{col}_{row}.jpg", responses=file_responses(JPEG))
def get_tile(
    level: int,
    col: int,
    row: int,
    stored: Found,
    services: ServicesDep,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A tile. Level 0 is the slide as one pixel, each further one has twice the width and height."""
    etag = service.etag_of(stored, level, col, row)
    return _answer(etag, if_none_match, lambda: service.tile(services, stored, level, col, row), JPEG)


@router.get("/{slide}/thumbnail", responses=file_responses(JPEG))
def get_thumbnail(
    stored: LookedAt, services: ServicesDep, width: Width = 256, if_none_match: IfNoneMatch = None
) -> Response:
    """The whole slide as a small picture."""
    etag = service.etag_of(stored, width)
    return _answer(etag, if_none_match, lambda: service.thumbnail(services, stored, width), JPEG)


def _answer(etag: str, if_none_match: str | None, draw: Callable[[], bytes], media_type: str) -> Response:
    """What is drawn, or 304 where the caller's copy is of this state (RFC 9110 §13.1.2, weak comparison).

    Browsers keep it, and ask each time whether they may still show it. `*` means any picture that there is: whether
    there is one shows when it is drawn.
    """
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    content = None if etag in tags else draw()
    is_current = content is None or "*" in tags
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    return Response(None if is_current else content, 304 if is_current else 200, headers, media_type)
