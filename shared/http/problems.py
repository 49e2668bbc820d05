"""RFC 9457 problem responses for every error."""

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from shared.errors import PROBLEM_BASE, HounsfieldError, Invalid

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error of `app` with a problem object."""
    app.add_exception_handler(HounsfieldError, _known)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DataError, _cannot_be_stored)
    app.add_exception_handler(ValueError, _value_error)
    app.add_exception_handler(Exception, _unexpected)


def problem_responses(*errors: type[HounsfieldError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the errors that a route may answer with."""
    entries: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        entries[error.status] = {
            "description": error.title,
            "content": {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}},
        }
    return entries


PROBLEM_SCHEMA = {
    "type": "object",
    "title": "Problem",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}


def problem_response(error: HounsfieldError) -> JSONResponse:
    """The response for an error."""
    return JSONResponse(error.problem(), error.status, headers=error.headers, media_type=MEDIA_TYPE)


def _known(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HounsfieldError)
    return problem_response(error)


def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Names each wrong field; never repeats its value, which may be a password or a patient's name."""
    assert isinstance(error, RequestValidationError)
    errors = [
        {
            "field": ".".join(str(part) for part in item["loc"][1:]) or str(item["loc"][0]),
            "message": item["msg"],
        }
        for item in error.errors()
    ]
    named = "; ".join(f"{item['field']}: {item['message']}" for item in errors)
    return problem_response(Invalid(f"the request is not valid: {named}", errors=errors))


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    slug = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "http-error")
    detail = (
        f"no route {request.method} {request.url.path}" if error.status_code == 404 else str(error.detail)
    )
    body = {
        "type": PROBLEM_BASE + slug,
        "title": str(error.detail),
        "status": error.status_code,
        "detail": detail,
    }
    headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
    return JSONResponse(body, error.status_code, headers=headers, media_type=MEDIA_TYPE)


def _allowed(request: Request) -> str:
    """The methods that some route with this path takes; Starlette names those of the first such route only."""
    asked = {"type": "http", "path": request.scope["path"], "root_path": "", "headers": []}
    methods = [
        method
        for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
        if any(route.matches({**asked, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]
    return ", ".join(sorted({*methods, "HEAD"} if "GET" in methods else methods))


def _cannot_be_stored(request: Request, error: Exception) -> JSONResponse:
    """PostgreSQL refused a value: too large a number, NUL in a text. Its words would repeat the value."""
    log.info("a value cannot be stored", path=request.url.path, error=type(error).__name__)
    return problem_response(
        Invalid("the request holds a text or number that cannot be stored, such as NUL or a lone surrogate")
    )


def _value_error(request: Request, error: Exception) -> JSONResponse:
    """What the database driver says of text that it cannot send; every other ValueError is a mistake of ours."""
    is_nul = str(error) == "A string literal cannot contain NUL (0x00) characters."
    is_surrogate = isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed"
    if is_nul or is_surrogate:
        return _cannot_be_stored(request, error)
    raise error


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected error", path=request.url.path, method=request.method, exc_info=error)
    return problem_response(
        HounsfieldError("something went wrong here; it was logged with this request's trace id")
    )
