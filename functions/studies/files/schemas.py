"""Wire types of what a study is made of."""

from uuid import UUID

from pydantic import BaseModel, Field


class SeriesOut(BaseModel):
    """One DICOM series that we hold of a study. UIDs are the replaced ones."""

    id: UUID
    series_uid: str
    study_uid: str
    number: int | None
    modality: str
    images: int = Field(description="how many DICOM files it has")
    size: int = Field(description="bytes of all of them")
    chosen: bool = Field(description="whether a volume was made of it")
    reason: str | None = Field(description="why it was chosen, or passed over")
