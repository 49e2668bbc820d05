"""Wire types of sessions."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from functions.auth.accounts.schemas import Account, Line


class Credentials(BaseModel):
    """Who wants to log in, by one of three names for the same thing."""

    model_config = ConfigDict(
        hide_input_in_errors=True,
        json_schema_extra={"anyOf": [{"required": [name]} for name in ("login", "email", "username")]},
    )

    login: Line | None = Field(default=None, description="e-mail address or username")
    email: Line | None = None
    username: Line | None = None
    password: SecretStr

    @model_validator(mode="after")
    def _named(self) -> "Credentials":
        if not self.name:
            raise PydanticCustomError("missing", "send email, username or login")
        return self

    @property
    def name(self) -> str:
        """The e-mail address or username; whichever field it came in, either is accepted."""
        return self.login or self.email or self.username or ""


class AccessToken(BaseModel):
    """A log-in that succeeded."""

    access_token: str
    access: str = Field(description="the same token, under the name that an older system gave it")
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(description="seconds")
    user: Account


class KeySet(BaseModel):
    """A JSON Web Key Set (RFC 7517) of Ed25519 public keys."""

    keys: list[dict[str, str]]
