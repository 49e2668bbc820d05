"""Wire types of accounts: snake_case, and on input the older systems' camelCase too."""

import re
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    computed_field,
)
from pydantic_core import PydanticCustomError

from shared.db.models.accounts import Role

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
EMAIL = rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})*"
"""What browsers accept in an e-mail field (WHATWG HTML §4.10.5.1.5). Hospital networks have hosts without a
dot and under `.local`, so the host is not held against the public DNS."""
USERNAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{1,63}"
"""Without `@`, so that no username can be another person's e-mail."""


def _matching(pattern: str, message: str) -> tuple[AfterValidator, Any]:
    """A check and its place in the schema; `message` tells what would be right."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise PydanticCustomError("format", "{message}", {"message": message})
        return value

    return AfterValidator(check), Field(json_schema_extra={"pattern": f"^{pattern}$"})


_email, _email_schema = _matching(EMAIL, "an e-mail address looks like name@hospital.example")
_username, _username_schema = _matching(
    USERNAME, "a username has 2 to 64 letters, digits, dots, dashes, underscores or plus signs, and no @"
)
Email = Annotated[str, StringConstraints(strip_whitespace=True, max_length=254), _email, _email_schema]
Username = Annotated[str, StringConstraints(strip_whitespace=True), _username, _username_schema]
Line = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=254, pattern=r"^[^\x00-\x1f\x7f]*$")
]
"""One line of text."""


class Profile(BaseModel):
    """What people say about themselves; null clears a field."""

    model_config = ConfigDict(hide_input_in_errors=True)

    full_name: Line | None = Field(default=None, validation_alias=AliasChoices("full_name", "fullName"))
    title: Line | None = None
    department: Line | None = None
    specialty: Line | None = None
    institution: Line | None = None
    phone: Line | None = None


class ProfileChange(Profile):
    """The fields that are sent are set, the others stay."""

    camel_name: Line | None = Field(
        default=None, validation_alias="fullName", description="another spelling of full_name"
    )

    def changes(self, full_name: str | None) -> dict[str, Any]:
        """What was sent, to an account whose full name is this one.

        Accounts are shown with both spellings; whoever sends one back with one of them edited means that one.
        """
        sent = self.model_dump(exclude_unset=True, exclude={"camel_name"})
        if "camel_name" in self.model_fields_set and sent.get("full_name") == full_name:
            sent["full_name"] = self.camel_name
        return sent


class Registration(Profile):
    """A new account."""

    email: Email
    username: Username | None = Field(
        default=None, description="made from the e-mail address when it is missing"
    )
    password: SecretStr = Field(description="at least 8 characters, at most 72 bytes, not a common one")
    role: Role | None = Field(
        default=None, description="heeded when an administrator registers somebody; otherwise it is `user`"
    )


class Account(Profile):
    """An account as others see it: never with its password."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: str
    username: str
    role: Role
    is_active: bool
    created_at: datetime
    updated_at: datetime

    @computed_field(alias="fullName", description="full_name, as an older system spelled it")
    def camel_name(self) -> str | None:
        """The name again."""
        return self.full_name
