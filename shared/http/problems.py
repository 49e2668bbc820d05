"""RFC 9457 problem responses for every error."""

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from shared.errors import PROBLEM_BASE, BadRequest, HounsfieldError, Invalid, Unavailable

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
DATABASE_SECONDS = "5"
"""Retry-After while the database is away."""
DEADLOCK = "40P01"
"""SQLSTATE of the transaction that was ended because two waited for each other."""


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error of `app`, its middleware included, with a problem object.

    What is unexpected is caught before it reaches Starlette's own handler, which raises it again after its answer: the
    server would log it a second time and hang up.
    """
    app.add_exception_handler(HounsfieldError, _known)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DataError, _cannot_be_stored)
    app.add_exception_handler(ValueError, _value_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    for away in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(away, _database_away)
    app.add_middleware(ExceptionMiddleware, handlers={**app.exception_handlers, Exception: _unexpected})


def problem_responses(*errors: type[HounsfieldError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the errors that a route may answer with."""
    entries: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        entries[error.status] = {
            "description": error.title,
            "content": {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}},
        }
    return entries


NO_FILE = "a text came where a file belongs; give the part of the form a file name"
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
    errors = [_one_error(item) for item in error.errors()]
    named = "; ".join(f"{item['field']}: {item['message']}" for item in errors)
    return problem_response(
        Invalid(f"the request is not valid: {named}{_label(request, error)}", errors=errors)
    )


def _one_error(item: dict[str, Any]) -> dict[str, str]:
    where, *path = item["loc"]
    if item["type"] == "json_invalid":
        return {
            "field": where,
            "message": f"no valid JSON at character {path[0]}: {item['ctx']['error']}",
        }
    message = NO_FILE if "Expected UploadFile" in item["msg"] else item["msg"]
    return {"field": ".".join(map(str, path)) or str(where), "message": message}


def _label(request: Request, error: RequestValidationError) -> str:
    """What to label the body as, where it was not read for its label."""
    if isinstance(error.body, bytes):
        return "; send the body as Content-Type: application/json"
    if isinstance(error.body, FormData) and "form" not in request.headers.get("content-type", ""):
        return "; send the body as Content-Type: multipart/form-data"
    return ""


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        return problem_response(BadRequest(_unreadable(error)))
    slug = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "http-error")
    detail, headers = str(error.detail), error.headers
    if error.status_code == 404:
        detail = f"no route {request.method} {request.url.path}"
    elif error.status_code == 405:
        allowed = _allowed(request)
        detail = f"{request.url.path} takes {allowed}; not {request.method}"
        headers = {"Allow": allowed}
    body = {
        "type": PROBLEM_BASE + slug,
        "title": str(error.detail),
        "status": error.status_code,
        "detail": detail,
    }
    return JSONResponse(body, error.status_code, headers=headers, media_type=MEDIA_TYPE)


def _unreadable(error: HTTPException) -> str:
    """Why a body cannot be read. FastAPI does not say; Starlette does, of forms."""
    cause = error.__cause__
    if isinstance(cause, UnicodeDecodeError):
        return "the body is not UTF-8"
    if isinstance(cause, RecursionError):
        return "the body is nested too deeply"
    return f"the body cannot be read: {error.detail}"


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
    return _unexpected(request, error)


def _gone(request: Request, error: Exception) -> JSONResponse:
    return problem_response(BadRequest("the client was gone before its request had come whole"))


def _database_away(request: Request, error: Exception) -> JSONResponse:
    """It cannot be reached, ended the transaction, or is too busy for one more. Its words may name what was sent."""
    cause = getattr(error, "orig", None) or error
    log.warning("database not available", path=request.url.path, error=type(cause).__name__)
    if getattr(cause, "pgcode", None) == DEADLOCK:
        return problem_response(
            Unavailable(
                "another request changed the same things at this moment; try again",
                headers={"Retry-After": "1"},
            )
        )
    return problem_response(
        Unavailable(
            "the database cannot be reached now; try again in some seconds",
            headers={"Retry-After": DATABASE_SECONDS},
        )
    )


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected error", path=request.url.path, method=request.method, exc_info=error)
    return problem_response(
        HounsfieldError("something went wrong here; it was logged with this request's trace id")
    )
