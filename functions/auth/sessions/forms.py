"""Reads log-in credentials: JSON, or the form that OAuth 2 clients send (RFC 6749 §4.3.2)."""

import json
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from functions.auth.sessions.schemas import Credentials
from shared.errors import BadRequest, Invalid, TooLarge

FORM = "application/x-www-form-urlencoded"
MAX_BYTES = 16 << 10


async def read_credentials(request: Request) -> Credentials:
    """The body as credentials. What does not say it is a form is read as JSON, whatever its type: browsers
    label `fetch(url, {body: JSON.stringify(…)})` as plain text.

    Raises BadRequest, TooLarge, Invalid, RequestValidationError.
    """
    body = await _small_body(request)
    is_form = request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM
    if is_form and body.lstrip().startswith(b"{"):  # curl's label, unless it is told another
        raise Invalid(f"the body is JSON, but labelled {FORM}; send it as Content-Type: application/json")
    try:
        fields: Any = dict(parse_qsl(body.decode(), max_num_fields=20)) if is_form else json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest(f"the body is neither JSON nor {FORM}") from None
    try:
        return Credentials.model_validate(fields)
    except ValidationError as error:
        errors = error.errors(include_input=False, include_url=False)
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in errors]) from None


CredentialsDep = Annotated[Credentials, Depends(read_credentials)]


async def _small_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise TooLarge(f"credentials are at most {MAX_BYTES} bytes")
    return bytes(body)


def body_schema() -> dict[str, Any]:
    """The OpenAPI entry of the body, which FastAPI cannot work out from a request that is read by hand."""
    schema = Credentials.model_json_schema()
    example = {"email": "clinician@hospital.example", "password": "a long passphrase"}
    content = {"application/json": {"schema": schema, "example": example}, FORM: {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}
