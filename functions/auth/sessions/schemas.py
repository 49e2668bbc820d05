"""Wire types of sessions."""

from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, model_validator
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


class LoggedIn(BaseModel):
    """A session's tokens; `access` and `refresh` are the same two under the names that an older system gave them."""

    access_token: str
    access: str
    refresh_token: str
    refresh: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(description="seconds that the access token is good for")
    refresh_expires_in: int = Field(description="seconds that the refresh token is good for")
    csrf_token: str = Field(description="what browsers send as X-CSRF-Token")
    user: Account


class Refresh(BaseModel):
    """A refresh token, by either name; browsers send nothing and are known by their cookie."""

    model_config = ConfigDict(hide_input_in_errors=True)

    refresh_token: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("refresh_token", "refresh", "refreshToken")
    )


class Logout(Refresh):
    """Which session ends: that of the refresh token or, without one, that of the request's own credential."""

    everywhere: bool = Field(default=False, description="end all sessions of the account")


class KeySet(BaseModel):
    """A JSON Web Key Set (RFC 7517) of Ed25519 public keys."""

    keys: list[dict[str, str]]
