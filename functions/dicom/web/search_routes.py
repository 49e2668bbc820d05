"""QIDO-RS: what there is (PS3.18 §10.6)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from functions.dicom.answers import Attributes, answers, note_search
from functions.dicom.criteria import Level, make_criteria, tag_of
from functions.dicom.holdings import Holdings
from functions.dicom.web.json_model import MEDIA_TYPE, dicom_json, require_json
from functions.dicom.web.urls import study_url
from shared.errors import BadRequest, Forbidden, NotAcceptable, Unauthenticated
from shared.http.access import StudiesReader
from shared.http.deps import Unit
from shared.http.problems import problem_responses

MOST = 1000
USUAL = 100
UID = Annotated[str, Path(pattern=r"^[0-9.]{1,64}$", description="a UID, as our answers give it")]
_NOT_ATTRIBUTES = {"limit", "offset", "includefield", "fuzzymatching", "accept"}
IGNORED = '299 hounsfield "Some attributes of the query are not matched here: they were ignored."'
MORE = '299 hounsfield "There are more results than this; ask for those from offset={}."'

router = APIRouter(
    prefix="/dicom-web",
    default_response_class=Response,
    responses={
        200: {"content": {MEDIA_TYPE: {}}, "description": "What matches, in the DICOM JSON model"},
        **problem_responses(BadRequest, Unauthenticated, Forbidden, NotAcceptable),
    },
)
Limit = Annotated[int, Query(ge=1, description=f"most results of one answer; {MOST} at most")]
Offset = Annotated[int, Query(ge=0, le=10**9, description="results to leave out at the beginning")]


@dataclass(frozen=True)
class Asked:
    """A query as it came."""

    unit: Unit
    user: StudiesReader
    request: Request
    limit: Limit = USUAL
    offset: Offset = 0


Search = Annotated[Asked, Depends()]


@router.get("/studies")
def search_studies(asked: Search) -> Response:
    """Studies, by attributes as parameters: `PatientID=`, `StudyDate=20260101-20260630`, `ModalitiesInStudy=CT`,
    `StudyDescription=*thorax*`, …; each by keyword or as eight hexadecimal digits."""
    return _search(asked, "study")


@router.get("/series")
def search_series(asked: Search) -> Response:
    """Series of any study."""
    return _search(asked, "series")


@router.get("/instances")
def search_instances(asked: Search) -> Response:
    """Instances of any series."""
    return _search(asked, "instance")


@router.get("/studies/{study}/series")
def search_series_of_study(study: UID, asked: Search) -> Response:
    """Series of a study."""
    return _search(asked, "series", StudyInstanceUID=study)


@router.get("/studies/{study}/instances")
def search_instances_of_study(study: UID, asked: Search) -> Response:
    """Instances of a study."""
    return _search(asked, "instance", StudyInstanceUID=study)


@router.get("/studies/{study}/series/{series}/instances")
def search_instances_of_series(study: UID, series: UID, asked: Search) -> Response:
    """Instances of a series."""
    return _search(asked, "instance", StudyInstanceUID=study, SeriesInstanceUID=series)


def _search(asked: Asked, level: Level, **within: str) -> Response:
    require_json(asked.request)
    wanted = [*_attributes(asked.request), *within.items()]
    known = [(tag, value) for name, value in wanted if (tag := tag_of(name)) is not None]
    criteria = make_criteria(level, known)
    holdings = Holdings(asked.unit.session, asked.user)
    limit = min(asked.limit, MOST)
    found = answers(holdings, criteria, limit + 1, asked.offset)
    shown = found[:limit]
    note_search(asked.unit, holdings, shown)
    warnings = [IGNORED] if len(known) < len(wanted) else []
    warnings += [MORE.format(asked.offset + limit)] if len(found) > limit else []
    headers = {"Warning": ", ".join(warnings)} if warnings else None
    return dicom_json([_located(asked, match) for match in shown], headers=headers)


def _attributes(request: Request) -> Iterator[tuple[str, str]]:
    for name, value in request.query_params.multi_items():
        if name not in _NOT_ATTRIBUTES:
            yield name, value


def _located(asked: Asked, match: Attributes) -> dict[str, Any]:
    """With the URL under which it is to be had (0008,1190)."""
    uids = [match[key]["Value"][0] for key in ("0020000D", "0020000E", "00080018") if key in match]
    url = study_url(asked.unit.services, *uids)
    return dict(sorted({**match, "00081190": {"vr": "UR", "Value": [url]}}.items()))
