"""Wire types of API keys."""

from typing import Annotated
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from functions.auth.accounts.schemas import Line
from shared.http.times import Time
from shared.security.policy import GRANTABLE

MAX_DAYS = 3650
Scope = Annotated[str, StringConstraints(max_length=64), Field(json_schema_extra={"enum": sorted(GRANTABLE)})]


class KeyRequest(BaseModel):
    """What a new key is called, what it is for and how long it is good."""

    name: Line = Field(min_length=1, description="what you call it, such as the program that uses it")
    scopes: list[Scope] | None = Field(
        default=None,
        min_length=1,
        max_length=20,
        description="what it may be used for; unset: studies, reports and reading your account",
    )
    expires_at: Time | None = Field(
        default=None, description=f"in the future, at most {MAX_DAYS} days ahead; unset: never"
    )
    expires_in_days: int | None = Field(default=None, ge=1, le=MAX_DAYS, description="instead of expires_at")

    @model_validator(mode="after")
    def _one_end(self) -> "KeyRequest":
        if self.expires_at is not None and self.expires_in_days is not None:
            raise PydanticCustomError("two_ends", "send expires_at or expires_in_days, not both")
        return self


class KeyOut(BaseModel):
    """A key, without what makes it one."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    prefix: str = Field(description="its first characters, by which you know it again")
    scopes: list[str]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    last_used_at: AwareDatetime | None = Field(description="to the minute")
    revoked_at: AwareDatetime | None


class NewKey(KeyOut):
    """A key that was just made."""

    key: str = Field(description="shown this once; send it as: Authorization: Bearer hsk_…, or X-API-Key")
