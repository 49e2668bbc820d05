"""HTTP of a case's images."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Response

from functions.upload.cases.access import find_case
from functions.upload.cases.schemas import CaseImage
from functions.upload.cases.service import add_image
from functions.upload.fields import AnyCaseModality
from functions.upload.forms.fields import OneFile, one_of
from functions.upload.receiving import Incoming
from shared.errors import Forbidden, NotFound, TooLarge, Unauthenticated, UnsupportedImage
from shared.http.access import StudiesWriter
from shared.http.deps import Unit
from shared.http.idempotency import IDEMPOTENT, Once
from shared.http.problems import problem_responses

router = APIRouter(tags=["cases"])
Complete = Annotated[bool, Form(description="no more will come: analyse what is there")]


@router.post(
    "/cases/{id}/upload",
    status_code=201,
    summary="Send an image of a case",
    responses={
        200: {"model": CaseImage, "description": "This very file was there already"},
        202: {"model": CaseImage, "description": "The study is complete and goes to analysis"},
        **problem_responses(Unauthenticated, Forbidden, NotFound, TooLarge, UnsupportedImage),
        **IDEMPOTENT,
    },
)
def send_image(
    id: UUID,
    unit: Unit,
    user: StudiesWriter,
    response: Response,
    modality: Annotated[AnyCaseModality, Form(description="t1, t1ce, t2 or flair")],
    once: Once,
    file: OneFile = None,
    image: OneFile = None,
    complete: Complete = False,
) -> CaseImage:
    """One sequence of a brain MRI, as a volume or as an archive of its DICOM files. Those that come within a short time
    of each other are one study; it is analysed at once when all four are there, or when this one is said to complete it.
    A second file of a sequence takes the place of the first."""
    case = find_case(unit.session, user, id)
    sent = one_of(file=file, image=image)
    joined = add_image(unit, case, Incoming(sent.stream, sent.filename, modality), complete=complete)
    study = joined.study
    response.headers["Location"] = f"/api/studies/{study.id}"
    response.status_code = 202 if study.settle_at is None else 200 if joined.known else 201
    return once.keep(
        CaseImage(
            id=joined.file.id,
            study_id=study.id,
            case_id=id,
            modality=modality,
            known=joined.known,
            status=study.status,
            received=list(joined.received),
            awaited=joined.awaited,
            closes_at=study.settle_at,
        ),
        response,
    )
