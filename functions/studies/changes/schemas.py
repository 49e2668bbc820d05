"""Wire types of changes to studies."""

from datetime import date
from typing import Annotated, Any, Literal, TypedDict, cast
from uuid import UUID

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StringConstraints, field_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from functions.studies.filters import PSEUDONYM
from shared.http.times import Day

Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$"),
]
"""One line of text."""
PatientId = Annotated[str, StringConstraints(pattern=PSEUDONYM)]


def without_default(schema: dict[str, Any]) -> None:
    """Null stands for "not sent" in our code only; nobody may send it."""
    schema.pop("default", None)


def refuse_null(value: object) -> object:
    """A check of fields that can be left out, but not cleared."""
    if value is None:
        raise PydanticCustomError("null", "leave the field out to keep it as it is; it cannot be null")
    return value


class Changes(TypedDict, total=False):
    """What was sent of a change."""

    name: str | None
    patient_id: str
    scan_date: date | None
    case_id: UUID | None


class StudyChange(BaseModel):
    """What is changed of a study; fields that are not sent stay, null clears one."""

    model_config = ConfigDict(hide_input_in_errors=True)

    name: Name | None = Field(default=None, description="what you call it; kept encrypted")
    patient_id: PatientId | SkipJsonSchema[None] = Field(
        default=None,
        validation_alias=AliasChoices("patient_id", "patientId"),
        description="the patient's pseudonym",
        json_schema_extra=without_default,
    )
    scan_date: Day | None = Field(default=None, validation_alias=AliasChoices("scan_date", "scanDate"))
    case_id: UUID | None = Field(
        default=None,
        validation_alias=AliasChoices("case_id", "caseId"),
        description="the case that it belongs to, which must be of the same patient",
    )

    _no_null = field_validator("patient_id")(refuse_null)

    def changes(self) -> Changes:
        """The fields that were sent."""
        return cast(Changes, self.model_dump(exclude_unset=True))


class SlideChange(BaseModel):
    """A slide's new name."""

    model_config = ConfigDict(hide_input_in_errors=True)

    name: Name


class Release(BaseModel):
    """What a person decided who looked at a study that is held."""

    model_config = ConfigDict(hide_input_in_errors=True)

    decision: Literal["release", "reject"]
    reason: Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")] | None = Field(
        default=None, description="why it is rejected; shown with the study"
    )
