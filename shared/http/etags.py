"""Which state of something a caller saw: `ETag` on the way out, `If-Match` on the way back (RFC 9110 §8.8, §13.1.1)."""

from datetime import datetime
from typing import Annotated

from fastapi import Header

from shared.errors import PreconditionFailed

IfMatch = Annotated[
    str | None,
    Header(max_length=1000, description="ETag of the state that is changed; without it, any state is"),
]


def etag_of(changed: datetime) -> str:
    """The ETag of a row that was last changed then."""
    return f'"{changed.timestamp():.6f}"'


def require_match(if_match: str | None, etag: str) -> None:
    """Raise PreconditionFailed unless an If-Match header, where one was sent, names this state."""
    tags = ["*"] if if_match is None else [tag.strip() for tag in if_match.split(",")]
    if "*" not in tags and etag not in tags:
        raise PreconditionFailed("it was changed since you read it; read it again, then send its new ETag")
