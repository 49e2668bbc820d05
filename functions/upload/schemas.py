"""What is answered to whoever sends a study."""

from datetime import date
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel

from functions.upload.receiving import Received


class UploadAccepted(BaseModel):
    """The study that the files became, or already were."""

    id: UUID
    study_id: UUID
    kind: str | None
    """None until ingest has found it out."""
    case_id: UUID | None
    patient_id: str
    scan_date: date | None
    status: str
    known: bool
    """True when these very files were sent before: nothing new was stored, `id` is the study they belong to. It is
    analysed again (202) where that had failed."""


def accepted(response: Response, received: Received, place: str = "studies") -> UploadAccepted:
    """The answer's body; sets its status (200 where nothing was to be done) and Location."""
    study = received.study
    response.status_code = 202 if received.started else 200
    response.headers["Location"] = f"/api/{place}/{study.id}"
    return UploadAccepted(
        id=study.id,
        study_id=study.id,
        kind=study.kind,
        case_id=study.case_id,
        patient_id=study.patient_id,
        scan_date=study.scan_date,
        status=study.status,
        known=received.known,
    )
