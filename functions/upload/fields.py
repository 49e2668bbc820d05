"""Fields that several of the upload function's requests have. JSON takes snake_case and camelCase."""

from typing import Annotated, Literal

from pydantic import AliasChoices, AliasGenerator, BaseModel, BeforeValidator, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

from shared.events.types import Kind

Modality = Literal["t1", "t1ce", "t2", "flair"]
MODALITIES: tuple[Modality, ...] = ("t1", "t1ce", "t2", "flair")
PATIENT_ID = r"^[A-Za-z0-9._-]{1,64}$"
PatientId = Annotated[str, StringConstraints(pattern=PATIENT_ID)]
Text = Annotated[str, StringConstraints(max_length=200)]
Filename = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]
MediaType = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$", max_length=127)
]


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


AnyCaseModality = Annotated[Modality, BeforeValidator(_lower)]
AnyCaseKind = Annotated[Kind, BeforeValidator(_lower)]


class Request(BaseModel):
    """A JSON body. What is wrong with it is told without repeating it: it may name a patient."""

    model_config = ConfigDict(
        hide_input_in_errors=True,
        alias_generator=AliasGenerator(validation_alias=lambda name: AliasChoices(name, to_camel(name))),
    )
