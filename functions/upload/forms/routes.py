"""HTTP of studies in one request."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, File, Response, UploadFile
from fastapi import Form as FormField

from functions.upload.fields import AnyCaseKind
from functions.upload.forms.fields import (
    CaseForm,
    Duplicate,
    Line,
    Modalities,
    PatientForm,
    incoming,
    listed,
)
from functions.upload.forms.service import Form, receive_form
from functions.upload.schemas import UploadAccepted, accepted
from shared.errors import Forbidden, NotFound, TooLarge, Unauthenticated, UnsupportedImage
from shared.http.access import StudiesWriter
from shared.http.deps import Unit
from shared.http.idempotency import IDEMPOTENT, Once
from shared.http.problems import problem_responses

router = APIRouter(
    tags=["upload"],
    responses={
        200: {
            "model": UploadAccepted,
            "description": "These very files were sent before; nothing is to be done",
        },
        **problem_responses(Unauthenticated, Forbidden, NotFound, TooLarge, UnsupportedImage),
        **IDEMPOTENT,
    },
)
Files = Annotated[
    list[UploadFile] | None,
    File(description="DICOM, NIfTI, OCT, pictures, slides, or archives of such files"),
]
UploadIds = Annotated[
    list[UUID] | None, FormField(description="finished uploads that belong to the study, too")
]
KindField = Annotated[AnyCaseKind | None, FormField(description="unset: found out from the files")]


@router.post("/studies", status_code=202, summary="Send a study")
def send_study(
    unit: Unit,
    user: StudiesWriter,
    response: Response,
    patient: PatientForm,
    case_id: CaseForm,
    once: Once,
    files: Files = None,
    uploads: UploadIds = None,
    kind: KindField = None,
    modalities: Modalities = None,
    name: Line = None,
    duplicate: Duplicate = False,
) -> UploadAccepted:
    """All files of one study in one request, as many as fit the limit of a request; larger ones go in parts first
    (`POST /uploads`, finished with `study` false) and are named here. What they are is found out from their bytes."""
    form = Form(listed(files or [], modalities), kind, patient, uploads or [], case_id, name, duplicate)
    return once.keep(accepted(response, receive_form(unit, user, form)), response)


@router.post("/segmentation/upload", status_code=202, summary="Send a CT")
def send_ct(
    unit: Unit,
    user: StudiesWriter,
    response: Response,
    patient: PatientForm,
    once: Once,
    file: Annotated[UploadFile, File(description="a series as .tar.gz, .tar or .zip, or one volume (NIfTI)")],
    name: Line = None,
    duplicate: Duplicate = False,
) -> UploadAccepted:
    """One CT study in one file, to be segmented."""
    form = Form([incoming(file, "file")], "ct", patient, name=name, duplicate=duplicate)
    return once.keep(accepted(response, receive_form(unit, user, form)), response)
