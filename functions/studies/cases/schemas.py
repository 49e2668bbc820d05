"""Wire types of cases: ours, and on input the spellings of the older case system."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    computed_field,
    field_validator,
)
from pydantic.json_schema import SkipJsonSchema

from functions.studies.changes.schemas import PatientId, refuse_null, without_default
from functions.studies.schemas import StudySummary
from shared.db.models import Case

SEXES = {"f": "female", "m": "male", "o": "other", "u": "unknown"}


def _sex(value: object) -> object:
    """In any case, and by its first letter."""
    word = value.strip().lower() if isinstance(value, str) else value
    return SEXES.get(word, word) if isinstance(word, str) else word


def _status(value: object) -> object:
    """`In Progress` and `in-progress` are `in_progress`."""
    return value.strip().lower().replace(" ", "_").replace("-", "_") if isinstance(value, str) else value


Sex = Annotated[Literal["female", "male", "other", "unknown"], BeforeValidator(_sex)]
CaseStatusName = Annotated[Literal["pending", "in_progress", "completed"], BeforeValidator(_status)]
Age = Annotated[int, Field(strict=True, ge=0, le=150, description="years")]
Diagnosis = Annotated[str, StringConstraints(max_length=2_000, pattern=r"^[^\x00]*$")]
Notes = Annotated[str, StringConstraints(max_length=20_000, pattern=r"^[^\x00]*$")]


class _CaseFields(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    age: Age | None = None
    sex: Sex | None = Field(default=None, description="also in any case, and as F or M")
    gender: Sex | None = Field(default=None, description="sex, as an older system spelled it")
    diagnosis: Diagnosis | None = None
    notes: Notes | None = None


class NewCase(_CaseFields):
    """A new case."""

    patient_id: PatientId | None = Field(
        default=None,
        validation_alias=AliasChoices("patient_id", "patientId"),
        description="the patient's pseudonym; one is made where none is given",
    )
    status: CaseStatusName = Field(default="pending", description="also as `In Progress`")

    def values(self) -> dict[str, Any]:
        """What its row has, but for the patient."""
        values = self.model_dump(exclude={"gender", "patient_id"})
        return {**values, "sex": self.sex or self.gender}


class CaseChange(_CaseFields):
    """What is changed of a case; fields that are not sent stay, null clears one."""

    patient_id: PatientId | SkipJsonSchema[None] = Field(
        default=None,
        validation_alias=AliasChoices("patient_id", "patientId"),
        description="the patient's pseudonym; it cannot be changed while the case has studies",
        json_schema_extra=without_default,
    )
    status: CaseStatusName | SkipJsonSchema[None] = Field(default=None, json_schema_extra=without_default)

    _no_null = field_validator("patient_id", "status")(refuse_null)

    def changes(self, case: Case) -> dict[str, Any]:
        """What was sent, that differs from the case.

        Cases are shown with both spellings; whoever sends one back with one of them edited means that one.
        """
        sent = self.model_dump(exclude_unset=True, exclude={"gender"})
        if "gender" in self.model_fields_set and sent.get("sex", case.sex) == case.sex:
            sent["sex"] = self.gender
        return {name: value for name, value in sent.items() if getattr(case, name) != value}


class CaseOut(BaseModel):
    """A case as lists show it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    patient_id: str
    age: int | None
    sex: str | None
    diagnosis: str | None
    notes: str | None
    status: str
    owner_id: UUID
    created_at: datetime
    updated_at: datetime

    @computed_field(description="sex, as an older system spelled it")
    def gender(self) -> str | None:
        """The sex again."""
        return self.sex

    @computed_field(description="owner_id, as an older system spelled it")
    def created_by(self) -> UUID:
        """The owner again."""
        return self.owner_id


class CaseWhole(CaseOut):
    """A case with its studies."""

    studies: list[StudySummary] = Field(description="the newest 200; GET /studies?case_id= pages through all")


class CaseImage(BaseModel):
    """A file of one of a case's studies."""

    id: UUID
    study_id: UUID
    kind: str | None
    filename: str
    """As it was sent."""
    role: str
    modality: str | None
    media_type: str | None
    size: int
    uploaded_at: datetime
    url: str | None = Field(description="where it can be fetched; null while it waits for ingest")
