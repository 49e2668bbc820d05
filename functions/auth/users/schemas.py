"""Wire types of the administration of accounts."""

from typing import Any

from pydantic import Field, StrictBool, field_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from functions.auth.accounts.schemas import Profile
from shared.db.models.accounts import Role


def _without_default(schema: dict[str, Any]) -> None:
    """Null stands for "not sent" in our code only; nobody may send it."""
    schema.pop("default", None)


class AccountChange(Profile):
    """What an administrator changes of an account; fields that are not sent stay."""

    role: Role | SkipJsonSchema[None] = Field(default=None, json_schema_extra=_without_default)
    is_active: StrictBool | SkipJsonSchema[None] = Field(
        default=None,
        json_schema_extra=_without_default,
        description="false keeps the person out, at once and everywhere",
    )

    @field_validator("role", "is_active")
    @classmethod
    def _never_null(cls, value: object) -> object:
        if value is None:
            raise PydanticCustomError("null", "leave the field out to keep it as it is; it cannot be null")
        return value
