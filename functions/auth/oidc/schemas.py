"""Wire types of log-ins elsewhere."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from functions.auth.oidc.attempt import PATH


class Way(BaseModel):
    """Whether one may log in through an identity provider, and where that starts."""

    enabled: bool
    issuer: str | None = Field(default=None, description="the identity provider")
    login: str | None = Field(default=None, description="where to send the browser; takes `next`")


Next = Annotated[
    str,
    Query(
        pattern=PATH,
        max_length=1024,
        description="path on this host that the browser goes to afterwards, in printable ASCII",
    ),
]


class Answer(BaseModel):
    """What the provider sends the browser back with (RFC 6749 §4.1.2, RFC 9207)."""

    code: str | None = None
    state: str | None = None
    error: str | None = None
    iss: str | None = None
