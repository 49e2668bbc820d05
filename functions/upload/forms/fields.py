"""Fields that several forms have."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import Depends, File, Form, UploadFile

from functions.upload.fields import MODALITIES, PATIENT_ID
from functions.upload.receiving import Incoming
from shared.errors import Invalid
from shared.http.times import Day
from shared.intake import Patient

Line = Annotated[str | None, Form(max_length=200)]
_PatientId = Annotated[
    str | None, Form(pattern=PATIENT_ID, description="a pseudonym; generated when none is given")
]
Duplicate = Annotated[bool, Form(description="make another study even if these files are known")]
OneFile = Annotated[UploadFile | None, File(description="the file")]
Modalities = Annotated[
    str | None,
    Form(
        description="sequences of `files` in their order, comma-separated: t1, t1ce, t2, flair, or nothing",
        max_length=10_000,
    ),
]


def _patient(
    patient_name: Line = None,
    patient_id: _PatientId = None,
    scan_date: Annotated[Day | None, Form()] = None,
    camel_name: Annotated[str | None, Form(alias="patientName", max_length=200)] = None,
    camel_id: Annotated[str | None, Form(alias="patientId", pattern=PATIENT_ID)] = None,
    camel_date: Annotated[Day | None, Form(alias="scanDate")] = None,
) -> Patient:
    return Patient(patient_name or camel_name, patient_id or camel_id, scan_date or camel_date)


def _case_id(
    case_id: Annotated[UUID | None, Form()] = None,
    camel_id: Annotated[UUID | None, Form(alias="caseId")] = None,
) -> UUID | None:
    return case_id or camel_id


PatientForm = Annotated[Patient, Depends(_patient)]
"""What a form says of the patient and the scan, in snake_case or camelCase."""
CaseForm = Annotated[UUID | None, Depends(_case_id)]


def incoming(file: UploadFile, field: str, modality: str | None = None) -> Incoming:
    """A file of a form. Raises Invalid for one without a name."""
    if not file.filename:
        raise Invalid(f"a file in '{field}' came without a name; give its part a file name, or leave it out")
    return Incoming(file.file, file.filename, modality)


def one_of(**files: UploadFile | None) -> Incoming:
    """The one file of a form that has several names for it. Raises Invalid for none or more."""
    given = [incoming(file, name) for name, file in files.items() if file is not None]
    if len(given) != 1:
        raise Invalid(f"send one file, as {' or '.join(map(repr, files))}; not {len(given)}")
    return given[0]


def listed(files: Sequence[UploadFile], modalities: str | None) -> list[Incoming]:
    """The files of a form with the sequences that it names for them. Raises Invalid."""
    names = _named(modalities) if modalities else [None] * len(files)
    if len(names) != len(files):
        raise Invalid(f"'modalities' names {len(names)} sequences for {len(files)} files; name one for each")
    return [incoming(file, "files", name) for file, name in zip(files, names, strict=True)]


def _named(modalities: str) -> Sequence[str | None]:
    names = [name.strip().lower() for name in modalities.split(",")]
    if not {*names} <= {*MODALITIES, ""}:
        raise Invalid(f"'modalities' takes {', '.join(MODALITIES)}, separated by commas")
    return [name or None for name in names]
