"""STOW-RS: images in (PS3.18 §10.5)."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Annotated, Any, Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from functions.dicom.files import has_preamble, path_of, with_preamble
from functions.dicom.receiving import MEDIA_TYPE, Delivery, NoSuchClass, Sender, check_image, finish, store
from functions.dicom.web.json_model import MEDIA_TYPE as JSON
from functions.dicom.web.json_model import dicom_json, require_json
from functions.dicom.web.multipart import PartReader, boundary_of
from shared.errors import (
    BadRequest,
    Forbidden,
    Invalid,
    NotAcceptable,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedImage,
)
from shared.http.access import StudiesWriter
from shared.http.deps import ServicesDep, address_of
from shared.http.problems import problem_responses
from shared.imaging.dicom.instance import Instance
from shared.quota import QuotaExceeded
from shared.runtime import Services
from shared.security.audit import Actor
from shared.telemetry.metrics import DICOM_INSTANCES

log = structlog.get_logger(__name__)

Reason = Literal[0xA700, 0xA900, 0xC000, 0x0122]
OUT_OF_RESOURCES: Reason = 0xA700
OTHER_STUDY: Reason = 0xA900
CANNOT_UNDERSTAND: Reason = 0xC000
NO_SUCH_CLASS: Reason = 0x0122
"""Failure reasons of PS3.18 table I.2-2."""

router = APIRouter(
    prefix="/dicom-web",
    default_response_class=Response,
    responses={
        200: {"content": {JSON: {}}, "description": "All were stored"},
        202: {"content": {JSON: {}}, "description": "Some were stored; FailedSOPSequence names the others"},
        409: {"content": {JSON: {}}, "description": "None was stored; FailedSOPSequence says why"},
        **problem_responses(
            BadRequest, Unauthenticated, Forbidden, NotAcceptable, TooLarge, UnsupportedImage
        ),
    },
)
UID = Annotated[str, InPath(pattern=r"^[0-9.]{1,64}$", description="Study Instance UID, as in the images")]


@dataclass
class Stored:
    """What became of the parts of one request."""

    services: Services
    delivery: Delivery
    study_uid: str | None
    stored: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)

    def take(self, media_type: str, file: IO[bytes] | None) -> None:
        """Keep one part, or note why not."""
        header: Instance | None = None
        try:
            if file is None or media_type not in ("", MEDIA_TYPE):
                raise UnsupportedImage("too long, or no DICOM")
            with ExitStack() as stack:
                file.flush()
                if not has_preamble(file):
                    file = stack.enter_context(with_preamble(file, self.services.settings.work_dir))
                header = check_image(path_of(file), self.services)
                if self.study_uid is not None and header.study_uid != self.study_uid:
                    self._fail(header, OTHER_STUDY)
                    return
                study_id = store(self.services, self.delivery, file, header)
        except NoSuchClass:
            self._fail(header, NO_SUCH_CLASS)
        except (QuotaExceeded, Unavailable, OSError, SQLAlchemyError) as error:
            log.warning("a sent image cannot be kept now", error=type(error).__name__)
            self._fail(header, OUT_OF_RESOURCES)
        except (Invalid, TooLarge, UnsupportedImage):
            self._fail(header, CANNOT_UNDERSTAND)
        else:
            DICOM_INSTANCES.labels("stow", "stored").inc()
            self.stored.append({**_named(header), "00081190": _value("UR", self._url(study_id))})

    def answer(self) -> tuple[int, dict[str, Any]]:
        """Status and the Store Instances Response (PS3.18 table I.2-1)."""
        said: dict[str, Any] = {}
        studies = sorted(self.delivery.studies)
        if len(studies) == 1:
            said["00081190"] = _value("UR", self._url(studies[0]))
        if self.failed:
            said["00081198"] = {"vr": "SQ", "Value": self.failed}
        if self.stored:
            said["00081199"] = {"vr": "SQ", "Value": self.stored}
        return (202 if self.stored else 409) if self.failed else 200, said

    def _fail(self, header: Instance | None, reason: Reason) -> None:
        DICOM_INSTANCES.labels("stow", "refused").inc()
        self.failed.append({**_named(header), "00081197": _value("US", reason)})

    def _url(self, study_id: UUID) -> str:
        return f"{self.services.settings.base_url}/api/studies/{study_id}"


@router.post("/studies")
async def store_instances(request: Request, services: ServicesDep, user: StudiesWriter) -> Response:
    """Send images as `multipart/related; type="application/dicom"`. They are de-identified, so that they are found under
    other UIDs than theirs: RetrieveURL names the study (`GET /studies/{id}`) that they became part of."""
    return await _store(request, services, user, None)


@router.post("/studies/{study}")
async def store_instances_of_study(
    study: UID, request: Request, services: ServicesDep, user: StudiesWriter
) -> Response:
    """The same, for images of one study only."""
    return await _store(request, services, user, study)


async def _store(request: Request, services: Services, user: StudiesWriter, study: str | None) -> Response:
    require_json(request)
    boundary = boundary_of(request.headers.get("content-type", ""), MEDIA_TYPE)
    actor = Actor.of(user, address_of(request))
    delivery = Delivery(Sender(user.tenant_id, user.user_id, f"stow:{user.user_id}", actor))
    stored = Stored(services, delivery, study)
    settings = services.settings
    reader = PartReader(boundary, settings.max_upload_bytes, settings.work_dir, stored.take)
    try:
        async for block in request.stream():
            if block:
                await run_in_threadpool(_feed, reader, block)
        reader.finish()
    finally:
        reader.close()
        await run_in_threadpool(finish, services, delivery)
    if not reader.parts:
        raise BadRequest("the body has no parts; send at least one image")
    return dicom_json(*reversed(stored.answer()))


def _feed(reader: PartReader, block: bytes) -> None:
    try:
        reader.feed(block)
    except OSError as error:
        raise Unavailable(f"the body cannot be kept: {error.strerror}") from error


def _named(header: Instance | None) -> dict[str, Any]:
    """Which instance; nothing where that could not be read."""
    if header is None:
        return {}
    return {"00081150": _value("UI", header.sop_class), "00081155": _value("UI", header.sop_uid)}


def _value(vr: str, value: object) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}
