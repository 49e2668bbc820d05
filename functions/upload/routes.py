"""HTTP of the upload function."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, File, Form, Response, UploadFile

from functions.upload.schemas import UploadAccepted
from functions.upload.service import Incoming, receive_mri
from shared.errors import Forbidden, Invalid, TooLarge, Unauthenticated, UnsupportedImage
from shared.http.access import StudiesWriter
from shared.http.deps import Unit
from shared.http.problems import problem_responses
from shared.http.times import Day
from shared.intake import Patient

router = APIRouter(tags=["upload"])

Volumes = Annotated[list[UploadFile] | None, File(description="1 to 4 volumes, .nii or .nii.gz")]
Volume = Annotated[UploadFile | None, File(description="the volume of this sequence, .nii or .nii.gz")]
Text = Annotated[str | None, Form(max_length=200)]
MODALITIES = ("t1", "t1ce", "t2", "flair")


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
    },
)
def process_mri(
    unit: Unit,
    user: StudiesWriter,
    response: Response,
    files: Volumes = None,
    t1: Volume = None,
    t1ce: Volume = None,
    t2: Volume = None,
    flair: Volume = None,
    modalities: Annotated[
        str | None,
        Form(
            description="sequences of `files` in their order, comma-separated: t1, t1ce, t2, flair, or nothing",
            max_length=100,
        ),
    ] = None,
    patient_name: Text = None,
    patientName: Text = None,
    patient_id: Annotated[str | None, Form(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = None,
    patientId: Annotated[str | None, Form(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = None,
    scan_date: Annotated[Day | None, Form()] = None,
    scanDate: Annotated[Day | None, Form()] = None,
    duplicate: Annotated[bool, Form(description="make another study even if these files are known")] = False,
) -> UploadAccepted:
    """Give the files as `files` (the sequence is told from each name, from `modalities`, or from the image), or one
    by one as `t1`, `t1ce`, `t2`, `flair`. With all four, the tumour is segmented; with fewer it is looked for and
    classified. The patient id is a pseudonym, generated when none is given; the name is kept encrypted."""
    typed = {"t1": t1, "t1ce": t1ce, "t2": t2, "flair": flair}
    incoming = _listed(files or [], modalities)
    incoming += [_incoming(file, name, name) for name, file in typed.items() if file is not None]
    patient = Patient(patient_name or patientName, patient_id or patientId, scan_date or scanDate)
    received = receive_mri(unit, user, incoming, patient, duplicate=duplicate)
    study = received.study
    response.status_code = 202 if received.started else 200
    response.headers["Location"] = f"/api/scans/{study.id}"
    return UploadAccepted(
        id=study.id,
        study_id=study.id,
        kind=study.kind,
        patient_id=study.patient_id,
        scan_date=study.scan_date,
        status=study.status,
        known=received.known,
    )


def _listed(files: list[UploadFile], modalities: str | None) -> list[Incoming]:
    names = _named(modalities) if modalities else [None] * len(files)
    if len(names) != len(files):
        raise Invalid(f"'modalities' names {len(names)} sequences for {len(files)} files; name one for each")
    return [_incoming(file, "files", name) for file, name in zip(files, names, strict=True)]


def _named(modalities: str) -> Sequence[str | None]:
    names = [name.strip().lower() for name in modalities.split(",")]
    if not {*names} <= {*MODALITIES, ""}:
        raise Invalid(f"'modalities' takes {', '.join(MODALITIES)}, separated by commas")
    return [name or None for name in names]


def _incoming(file: UploadFile, field: str, modality: str | None) -> Incoming:
    if not file.filename:
        raise Invalid(f"a file in '{field}' came without a name; give its part a file name, or leave it out")
    return Incoming(file.file, file.filename, modality)
