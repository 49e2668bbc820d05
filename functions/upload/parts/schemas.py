"""Wire types of uploads in parts."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AliasChoices, BaseModel, Field

from functions.upload.fields import (
    AnyCaseKind,
    AnyCaseModality,
    Filename,
    MediaType,
    PatientId,
    Request,
    Sha256,
    Text,
)
from functions.upload.parts.sizes import MAX_PART_BYTES, MIN_PART_BYTES
from shared.http.times import Day
from shared.storage.parts import MAX_PARTS

MAX_SIGNED = 1000
"""URLs in one answer."""


class UploadRequest(Request):
    """The file that is to come, and what its study is to be."""

    filename: Filename = Field(validation_alias=AliasChoices("filename", "fileName", "file_name"))
    size: int = Field(ge=1, description="of the file, in bytes")
    kind: AnyCaseKind | None = Field(default=None, description="unset: found out from the file")
    sha256: Sha256 | None = Field(
        default=None, description="of the file, hex: what arrives is checked against it"
    )
    part_bytes: int | None = Field(
        default=None,
        ge=MIN_PART_BYTES,
        le=MAX_PART_BYTES,
        description="size of each part but the last, at most 10,000 of them; unset: as the server chooses",
    )
    media_type: MediaType | None = None
    patient_id: PatientId | None = Field(default=None, description="a pseudonym; unset: one is made")
    patient_name: Text | None = Field(default=None, description="kept encrypted")
    scan_date: Day | None = None
    case_id: UUID | None = None
    modality: AnyCaseModality | None = Field(default=None, description="of a brain MRI")
    duplicate: bool = Field(default=False, description="make another study even if this file is known")


class PartOut(BaseModel):
    """A part that the store has."""

    number: int
    etag: str | None = Field(description="null where the parts were joined already")
    size: int


class UploadSummary(BaseModel):
    """An upload, without its parts."""

    id: UUID
    status: str = Field(description="open, finished, aborted or expired")
    kind: str | None
    size: int
    part_bytes: int
    part_count: int
    created_at: datetime
    expires_at: datetime | None = Field(description="when it is dropped; null once a study has it")
    study_id: UUID | None


class UploadOut(UploadSummary):
    """An upload and what the store has of it."""

    received: list[PartOut]
    received_bytes: int


class SignRequest(Request):
    """Which parts are to be sent now."""

    numbers: list[Annotated[int, Field(ge=1, le=MAX_PARTS)]] = Field(min_length=1, max_length=MAX_SIGNED)


class SignedPart(BaseModel):
    """Where one part goes."""

    number: int
    url: str = Field(description="PUT the part's bytes there; the answer has its ETag")
    size: int = Field(description="bytes that this part has")
    expires_at: datetime


class SignedParts(BaseModel):
    """URLs, in the order that was asked for."""

    parts: list[SignedPart]


class NamedPart(Request):
    """A part that was sent."""

    number: int = Field(
        ge=1, le=MAX_PARTS, validation_alias=AliasChoices("number", "part_number", "partNumber", "PartNumber")
    )
    etag: str = Field(
        min_length=1,
        max_length=200,
        validation_alias=AliasChoices("etag", "ETag", "eTag"),
        description="as answered",
    )
    size: int | None = Field(default=None, ge=0)


class FinishRequest(Request):
    """That all of it was sent."""

    parts: list[NamedPart] | None = Field(
        default=None, min_length=1, max_length=MAX_PARTS, description="unset: all that were received"
    )
    study: bool = Field(
        default=True, description="make a study of it; else POST /studies takes it as one of `uploads`"
    )
    sha256: Sha256 | None = Field(
        default=None, description="of the file, where it was not known at the start"
    )
