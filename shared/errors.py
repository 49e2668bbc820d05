"""Every outcome that a caller can be told about, as one small tree.

HounsfieldError
├── BadRequest 400            ├── Conflict 409
├── Unauthenticated 401       ├── TooLarge 413
├── Forbidden 403             ├── UnsupportedImage 415
├── NotFound 404              ├── Invalid 422
├── NotAcceptable 406         ├── TooManyRequests 429
├── RequestTimeout 408        ├── HeadTooLarge 431
├── PreconditionFailed 412    └── Unavailable 503

Each class is one RFC 9457 problem type; `shared.http.problems` turns an instance into the response.
"""

from typing import Any, ClassVar, Self

PROBLEM_BASE = "https://hounsfield.dev/problems/"


class HounsfieldError(Exception):
    """Base of every error that may be shown to a caller: `detail` says what is wrong and what would be right."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *, headers: dict[str, str] | None = None, **extensions: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}
        self.extensions = extensions

    @classmethod
    def of(cls, field: str, message: str) -> Self:
        """What is wrong with one field of the request."""
        return cls(message, errors=[{"field": field, "message": message}])

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 problem object."""
        return {
            "type": PROBLEM_BASE + self.slug,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.extensions,
        }


class BadRequest(HounsfieldError):
    """The request cannot be understood."""

    status, slug, title = 400, "bad-request", "Bad request"


class Unauthenticated(HounsfieldError):
    """No valid credential came with the request."""

    status, slug, title = 401, "unauthenticated", "Authentication required"

    def __init__(self, detail: str, **extensions: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"}, **extensions)


class Forbidden(HounsfieldError):
    """The credential is valid but does not allow this."""

    status, slug, title = 403, "forbidden", "Not allowed"


class NotFound(HounsfieldError):
    """It does not exist, or the caller may not see it."""

    status, slug, title = 404, "not-found", "Not found"


class NotAcceptable(HounsfieldError):
    """It cannot be had in any form that the request accepts."""

    status, slug, title = 406, "not-acceptable", "Not available in that form"


class RequestTimeout(HounsfieldError):
    """The request did not arrive in time."""

    status, slug, title = 408, "request-timeout", "The request came too slowly"


class Conflict(HounsfieldError):
    """The request contradicts the present state."""

    status, slug, title = 409, "conflict", "Conflict"


class PreconditionFailed(HounsfieldError):
    """It was changed since the caller read it."""

    status, slug, title = 412, "precondition-failed", "Changed meanwhile"


class TooLarge(HounsfieldError):
    """The body or file is over its limit."""

    status, slug, title = 413, "too-large", "Too large"


class UnsupportedImage(HounsfieldError):
    """The file is not an image of a kind that this route takes."""

    status, slug, title = 415, "unsupported-image", "Unsupported image"


class RangeNotSatisfiable(HounsfieldError):
    """The part of the file that was asked for lies beyond its end."""

    status, slug, title = 416, "range-not-satisfiable", "No such part of the file"


class Invalid(HounsfieldError):
    """The request is well formed but its content is not acceptable."""

    status, slug, title = 422, "invalid", "Invalid content"


class TooManyRequests(HounsfieldError):
    """A rate or concurrency limit is reached."""

    status, slug, title = 429, "too-many-requests", "Too many requests"


class HeadTooLarge(HounsfieldError):
    """The request's line and headers are over their limit."""

    status, slug, title = 431, "head-too-large", "Request header fields too large"


class Unavailable(HounsfieldError):
    """Something this depends on is not there at present."""

    status, slug, title = 503, "unavailable", "Temporarily unavailable"
