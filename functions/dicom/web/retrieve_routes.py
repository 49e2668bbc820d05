"""WADO-RS: images out (PS3.18 §10.4)."""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydicom import dcmread, uid

from functions.dicom.answers import note_reading
from functions.dicom.criteria import SERIES_UID, SOP_UID, STUDY_UID, make_criteria
from functions.dicom.holdings import Holdings
from functions.dicom.receiving import MEDIA_TYPE as DICOM
from functions.dicom.web.accepts import ANY, Accepted, accepted
from functions.dicom.web.frames import BYTES, media_type_of, numbers_in, open_frames
from functions.dicom.web.held_files import Held, blocks_of, read_held
from functions.dicom.web.json_model import MEDIA_TYPE as JSON
from functions.dicom.web.json_model import require_json
from functions.dicom.web.metadata import metadata, read_head
from functions.dicom.web.multipart import MultipartResponse, Part
from functions.dicom.web.search_routes import UID
from functions.dicom.web.urls import study_url
from shared.errors import Forbidden, NotAcceptable, NotFound, Unauthenticated
from shared.http.access import StudiesReader
from shared.http.deps import Unit
from shared.http.problems import problem_responses
from shared.imaging.dicom.instance import DEFLATED, EXPLICIT, IMPLICIT, NATIVE
from shared.runtime import Services
from shared.storage.port import Storage

RELATED = "multipart/related"
ERRORS = problem_responses(Unauthenticated, Forbidden, NotFound, NotAcceptable)
REWRITTEN = frozenset({IMPLICIT, DEFLATED})
"""Transfer syntaxes of which Explicit VR Little Endian is made while one waits."""
AS_STORED = "*"
_AT = "/studies/{study}/series/{series}/instances/{instance}"
FrameList = Annotated[str, Path(pattern=r"^[1-9][0-9]{0,6}(,[1-9][0-9]{0,6}){0,999}$", description="1,2,5")]
Tag = Annotated[str, Path(pattern=r"^[0-9A-Fa-f]{8}$", description="of an attribute of the data set itself")]

router = APIRouter(responses=ERRORS)
files = APIRouter(
    prefix="/dicom-web",
    responses={200: {"content": {RELATED: {}, DICOM: {}}, "description": "One part for each"}},
    default_response_class=StreamingResponse,
)
described = APIRouter(
    prefix="/dicom-web",
    responses={200: {"content": {JSON: {}}, "description": "One object for each instance"}},
    default_response_class=StreamingResponse,
)


@dataclass(frozen=True)
class Asked:
    """Who asks for images, and how they take them."""

    unit: Unit
    user: StudiesReader
    request: Request

    @property
    def services(self) -> Services:
        return self.unit.services

    def held(self, study: str, series: str | None = None, instance: str | None = None) -> list[Held]:
        """The files, their reading noted. Raises NotFound where there is nothing that the caller may see."""
        wanted = [(STUDY_UID, study), (SERIES_UID, series or ""), (SOP_UID, instance or "")]
        holdings = Holdings(self.unit.session, self.user)
        found = holdings.instances(make_criteria("instance", wanted))
        if not found:
            raise NotFound("there are no such images; they have other UIDs here than when they were sent")
        note_reading(self.unit, holdings, Counter(series.study_id for _, series in found))
        return found


Retrieval = Annotated[Asked, Depends()]


@files.get("/studies/{study}")
def retrieve_study(study: UID, asked: Retrieval) -> Response:
    """Every instance of a study, as `multipart/related; type="application/dicom"`; with `transfer-syntax=*` as it is
    stored, else as Explicit VR Little Endian."""
    return _retrieved(asked, asked.held(study))


@files.get("/studies/{study}/series/{series}")
def retrieve_series(study: UID, series: UID, asked: Retrieval) -> Response:
    """Every instance of a series."""
    return _retrieved(asked, asked.held(study, series))


@files.get(_AT)
def retrieve_instance(study: UID, series: UID, instance: UID, asked: Retrieval) -> Response:
    """One instance; without parts where `application/dicom` is accepted."""
    return _retrieved(asked, asked.held(study, series, instance)[:1], single=True)


@described.get("/studies/{study}/metadata")
def study_metadata(study: UID, asked: Retrieval) -> Response:
    """All attributes of every instance, large values by reference."""
    return _described(asked, lambda: asked.held(study))


@described.get("/studies/{study}/series/{series}/metadata")
def series_metadata(study: UID, series: UID, asked: Retrieval) -> Response:
    """The same of a series."""
    return _described(asked, lambda: asked.held(study, series))


@described.get(_AT + "/metadata")
def instance_metadata(study: UID, series: UID, instance: UID, asked: Retrieval) -> Response:
    """The same of one instance."""
    return _described(asked, lambda: asked.held(study, series, instance)[:1])


@files.get(_AT + "/frames/{frames}")
def retrieve_frames(study: UID, series: UID, instance: UID, frames: FrameList, asked: Retrieval) -> Response:
    """Frames as they are stored: plain pixels as `application/octet-stream`, others as `image/jp2`, `image/jls`, …"""
    held = asked.held(study, series, instance)[0]
    media_type = _frame_type(asked, held)
    opened = open_frames(asked.services.storage, held)
    wanted = numbers_in(frames)
    opened.require(max(wanted))
    return _framed(held, media_type, ([opened.frame(number)] for number in wanted))


@files.get(_AT + "/bulkdata/{tag}")
def retrieve_bulkdata(study: UID, series: UID, instance: UID, tag: Tag, asked: Retrieval) -> Response:
    """The value of an attribute that `metadata` names by reference; of pixel data, every frame."""
    held = asked.held(study, series, instance)[0]
    if tag.upper() == "7FE00010":
        media_type = _frame_type(asked, held)
        frames = open_frames(asked.services.storage, held)
        whole = [frames.all()] if media_type == BYTES else ([frame] for frame in frames.all())
        return _framed(held, media_type, whole)
    value = read_head(asked.services.storage, held).get(int(tag, 16))
    if value is None or not isinstance(value.value, bytes):
        raise NotFound("the instance has no such binary attribute in its data set")
    return MultipartResponse([Part(BYTES, [value.value])], BYTES, [(BYTES, None, len(value.value))])


router.include_router(files)
router.include_router(described)


def _retrieved(asked: Asked, held: list[Held], *, single: bool = False) -> Response:
    for wanted in accepted(asked.request):
        syntax = _syntax(wanted, held)
        if syntax is None or not wanted.takes(DICOM):
            continue
        if wanted.multipart:
            return _in_parts(asked.services, held, syntax)
        if single and wanted.type == DICOM:
            return _alone(asked.services, held, syntax)
    raise NotAcceptable(
        f'these images are to be had as {RELATED}; type="{DICOM}"; transfer-syntax=* (as they are stored), and '
        "those that are not compressed also in Explicit VR Little Endian"
    )


def _syntax(wanted: Accepted, held: Sequence[Held]) -> str | None:
    """In which transfer syntax the images are sent; None where they are not to be had so."""
    if wanted.syntax == AS_STORED or (wanted.type == ANY and wanted.syntax is None):
        return AS_STORED
    syntax = wanted.syntax or EXPLICIT  # PS3.18 §8.7.3.5.2
    stored = {instance.transfer_syntax for instance, _ in held}
    rewritable = REWRITTEN if syntax == EXPLICIT else frozenset()
    return syntax if stored <= {syntax} | rewritable else None


def _in_parts(services: Services, held: list[Held], syntax: str) -> Response:
    parts = (part for part, _ in _parts(services, held, syntax))
    if any(_is_rewritten(instance.transfer_syntax, syntax) for instance, _ in held):
        return MultipartResponse(parts, DICOM, None)
    sizes = [(_dicom_type(one[0].transfer_syntax), _where(services, one), one[0].size) for one in held]
    return MultipartResponse(parts, DICOM, sizes)


def _alone(services: Services, held: list[Held], syntax: str) -> Response:
    """One instance without parts."""
    [(part, (instance, _))] = _parts(services, held, syntax)
    rewritten = _is_rewritten(instance.transfer_syntax, syntax)
    size = None if rewritten else {"Content-Length": str(instance.size)}
    return StreamingResponse(part.blocks, headers=size, media_type=part.media_type)


def _parts(services: Services, held: list[Held], syntax: str) -> Iterator[tuple[Part, Held]]:
    for one, blocks in blocks_of(services.storage, held):
        stored: str = one[0].transfer_syntax
        content = blocks
        if _is_rewritten(stored, syntax):
            stored, content = syntax, _explicit(services.storage, one)
        yield Part(_dicom_type(stored), content, location=_where(services, one)), one


def _is_rewritten(stored: str, syntax: str) -> bool:
    return syntax not in (AS_STORED, stored)


def _explicit(storage: Storage, held: Held) -> Iterator[bytes]:
    """The file in Explicit VR Little Endian."""
    dataset, target = dcmread(io.BytesIO(read_held(storage, held))), io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = uid.UID(EXPLICIT)
    dataset.save_as(target, enforce_file_format=True)
    yield target.getvalue()


def _dicom_type(transfer_syntax: str) -> str:
    return f"{DICOM}; transfer-syntax={transfer_syntax}"


def _where(services: Services, held: Held) -> str:
    instance, series = held
    return study_url(services, series.study_uid, series.series_uid, instance.sop_uid)


def _described(asked: Asked, find: Callable[[], list[Held]]) -> Response:
    require_json(asked.request)
    return StreamingResponse(metadata(asked.services, find()), media_type=JSON)


def _frame_type(asked: Asked, held: Held) -> str:
    """The media type of the image's frames. Raises NotAcceptable where the client does not take it."""
    syntax = held[0].transfer_syntax
    stored = media_type_of(syntax)
    for wanted in accepted(asked.request):
        in_any_form = wanted.type == BYTES and wanted.syntax == AS_STORED  # how viewers say it
        if in_any_form or (wanted.takes(stored) and wanted.syntax in (None, AS_STORED, syntax)):
            return stored
    raise NotAcceptable(f'the frames of this image are to be had as {RELATED}; type="{stored}"')


def _framed(held: Held, media_type: str, contents: Iterable[Iterable[bytes]]) -> Response:
    """contents: of each part, in blocks."""
    syntax = held[0].transfer_syntax
    shown = EXPLICIT if syntax in NATIVE else syntax
    parts = (Part(f"{media_type}; transfer-syntax={shown}", content) for content in contents)
    return MultipartResponse(parts, media_type, None)
