"""Wire types of slides in parts, in the words of the older slide system."""

from datetime import datetime
from uuid import UUID

from pydantic import AliasChoices, BaseModel, Field

from functions.upload.fields import Filename, PatientId, Request, Sha256
from functions.upload.parts.schemas import NamedPart


class SlideRequest(Request):
    """The slide that is to come."""

    filename: Filename = Field(validation_alias=AliasChoices("filename", "fileName", "file_name"))
    size: int = Field(
        ge=1,
        description="of the file, in bytes",
        validation_alias=AliasChoices("size", "file_size", "fileSize"),
    )
    sha256: Sha256 | None = None
    patient_id: PatientId | None = None
    case_id: UUID | None = None


class PartUrl(BaseModel):
    """Where one part goes."""

    part_number: int
    url: str


class SlideStarted(BaseModel):
    """Where all parts go. URLs that expire are signed again by `POST /uploads/{upload_id}/parts`."""

    upload_id: UUID
    slide_id: UUID | None = Field(description="null until the upload is finished")
    part_size: int = Field(description="bytes of each part but the last")
    part_count: int
    urls: list[PartUrl]
    expires_at: datetime = Field(description="of the URLs")


class SlideFinish(Request):
    """That all parts of a slide were sent."""

    upload_id: UUID
    parts: list[NamedPart] | None = Field(
        default=None,
        min_length=1,
        max_length=10_000,
        description="as the store answered them; unset: all of them",
    )


class SlideFinished(BaseModel):
    """The slide that the file became."""

    slide_id: UUID
    study_id: UUID
    status: str
