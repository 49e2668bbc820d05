"""Wire types of a case's images."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field


class CaseImage(BaseModel):
    """What became of one image: the study that it is part of, and what that still waits for."""

    id: UUID = Field(description="of the file")
    study_id: UUID
    case_id: UUID
    modality: str
    known: bool = Field(description="this very file was there already")
    status: str
    received: list[str] = Field(description="sequences that the study has")
    awaited: list[str] = Field(description="sequences that may still come")
    closes_at: datetime | None = Field(
        description="when the study goes to analysis with what it has; null: it has gone"
    )
