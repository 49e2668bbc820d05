"""Wire types of the upload function."""

from datetime import date
from uuid import UUID

from pydantic import BaseModel


class UploadAccepted(BaseModel):
    """The study that the files became, or already were."""

    id: UUID
    study_id: UUID
    kind: str | None
    patient_id: str
    scan_date: date | None
    status: str
    known: bool
    """True when these very files were sent before: nothing new was stored, `id` is the study they belong to. It is
    analysed again (202) where that had failed."""
