"""Wire types of changing and resetting a password; each field also by the names that older systems gave it."""

from typing import Annotated

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from functions.auth.accounts.schemas import Line

_NEW = ("new_password", "newPassword", "password")
_CURRENT = ("current_password", "currentPassword", "old_password", "oldPassword")
Token = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]


class PasswordChange(BaseModel):
    """The password of now and the one to come."""

    model_config = ConfigDict(hide_input_in_errors=True)

    current_password: SecretStr = Field(validation_alias=AliasChoices(*_CURRENT))
    new_password: SecretStr = Field(
        validation_alias=AliasChoices(*_NEW),
        description="at least 8 characters, at most 72 bytes, not a common one",
    )


class ResetConfirmation(BaseModel):
    """The token that came by mail and the password to be."""

    model_config = ConfigDict(hide_input_in_errors=True)

    token: Token
    password: SecretStr = Field(validation_alias=AliasChoices("password", "new_password", "newPassword"))


class Reset(BaseModel):
    """Either of the two, told apart by the token."""

    model_config = ConfigDict(
        hide_input_in_errors=True,
        json_schema_extra={"anyOf": [{"required": ["email"]}, {"required": ["token", "password"]}]},
    )

    email: Line | None = None
    token: Token | None = None
    password: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("password", "new_password", "newPassword")
    )

    @model_validator(mode="after")
    def _one_or_the_other(self) -> "Reset":
        if self.token is not None and self.password is None:
            raise PydanticCustomError("missing", "send the new password along with the token")
        if self.token is None and not self.email:
            raise PydanticCustomError("missing", "send email, or token and password")
        return self


class ResetRequested(BaseModel):
    """The same for every address."""

    detail: str
