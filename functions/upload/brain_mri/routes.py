"""HTTP of brain MRI in one form."""

from typing import Annotated

from fastapi import APIRouter, File, Response, UploadFile

from functions.upload.brain_mri.service import receive_mri
from functions.upload.forms.fields import Duplicate, Modalities, PatientForm, incoming, listed
from functions.upload.schemas import UploadAccepted, accepted
from shared.errors import Forbidden, Invalid, TooLarge, Unauthenticated, UnsupportedImage
from shared.http.access import StudiesWriter
from shared.http.deps import Unit
from shared.http.idempotency import IDEMPOTENT, Once
from shared.http.problems import problem_responses

router = APIRouter(tags=["upload"])

Volumes = Annotated[list[UploadFile] | None, File(description="1 to 4 volumes, .nii or .nii.gz")]
Volume = Annotated[UploadFile | None, File(description="the volume of this sequence, .nii or .nii.gz")]


@router.post(
    "/process-mri",
    status_code=202,
    summary="Send a brain MRI for analysis",
    responses={
        200: {
            "model": UploadAccepted,
            "description": "These very files were sent before; nothing is to be done",
        },
        **problem_responses(Unauthenticated, Forbidden, TooLarge, UnsupportedImage, Invalid),
        **IDEMPOTENT,
    },
)
def process_mri(
    unit: Unit,
    user: StudiesWriter,
    response: Response,
    patient: PatientForm,
    once: Once,
    files: Volumes = None,
    t1: Volume = None,
    t1ce: Volume = None,
    t2: Volume = None,
    flair: Volume = None,
    modalities: Modalities = None,
    duplicate: Duplicate = False,
) -> UploadAccepted:
    """Give the files as `files` (the sequence is told from each name, from `modalities`, or from the image), or one
    by one as `t1`, `t1ce`, `t2`, `flair`. With all four, the tumour is segmented; with fewer it is looked for and
    classified. The patient id is a pseudonym, generated when none is given; the name is kept encrypted."""
    typed = {"t1": t1, "t1ce": t1ce, "t2": t2, "flair": flair}
    sent = listed(files or [], modalities)
    sent += [incoming(file, name, name) for name, file in typed.items() if file is not None]
    received = receive_mri(unit, user, sent, patient, duplicate=duplicate)
    return once.keep(accepted(response, received, "scans"), response)
