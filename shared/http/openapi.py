"""The OpenAPI document, made to say what the error handlers really answer."""

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI

from shared.http.problems import MEDIA_TYPE, PROBLEM_SCHEMA

_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_UNREADABLE = {"description": "The body cannot be parsed", "content": _PROBLEM}
_UNAVAILABLE = {
    "description": "A dependency is away, or too many requests are being answered",
    "content": _PROBLEM,
}


def describe_problems(api: FastAPI) -> None:
    """Have `api.openapi()` name problem objects where FastAPI by itself names its HTTPValidationError."""
    generate: Callable[[], dict[str, Any]] = api.openapi
    described: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not described:
            described.update(_with_problems(generate()))
        return described

    vars(api)["openapi"] = openapi


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = PROBLEM_SCHEMA
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operation in _operations(document):
        answers = operation["responses"]
        answers.setdefault("503", _UNAVAILABLE)
        if "requestBody" in operation:
            answers.setdefault("400", _UNREADABLE)
        for status, answer in answers.items():
            ours = MEDIA_TYPE in answer.get("content", {})
            if ours or status == "422":
                answers[status] = {**answer, "content": _PROBLEM}
        operation["responses"] = dict(sorted(answers.items()))
    return document


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()
