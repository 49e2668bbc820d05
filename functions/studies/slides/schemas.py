"""Wire types of slides."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field


class SlideOut(BaseModel):
    """A whole-slide image."""

    id: UUID
    name: str | None = Field(description="what its owner calls it; else its file's name without the ending")
    owner_id: UUID
    patient_id: str
    case_id: UUID | None
    original_filename: str | None = Field(description="as it was sent")
    type: str | None = Field(
        description="whose format it is, as OpenSlide calls it; null until ingest has read it"
    )
    size: int | None = Field(
        description="bytes of its file, or of all its files: a DICOM slide has one for each level"
    )
    width: int | None = Field(description="pixels of the largest level")
    height: int | None = Field(description="pixels of the largest level")
    levels: int | None = Field(description="how many resolutions it has")
    mpp: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        description="µm per pixel of the largest level (x, y); null where the file says none that is plausible"
    )
    status: str
    progress: int
    message: str | None
    held: list[str] | None
    created_at: datetime
    updated_at: datetime
    viewer_url: str | None = Field(description="Deep Zoom descriptor; null until ingest has read the slide")
    thumbnail_url: str | None
    file_url: str | None = Field(description="its first file; GET /studies/{id} lists all")


class BulkDelete(BaseModel):
    """Which slides go."""

    ids: Annotated[list[UUID], Field(min_length=1, max_length=100)]


class BulkDeleted(BaseModel):
    """What became of them. A slide that was deleted before is not found: asking again does no harm."""

    deleted: list[UUID]
    not_found: list[UUID] = Field(description="not there, no slides, or not yours")
