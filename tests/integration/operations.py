"""The operations of the OpenAPI document as requests, each aimed at what the victim owns."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from shared.http.access import EXTENSION
from shared.ids import uuid7
from shared.security.policy import Action
from tests.integration.victims import Victim

Document = Mapping[str, Any]
Aim = Callable[[Victim], object]

PATHS: dict[str, Aim] = {
    "/auth/api-keys/{id}": lambda victim: victim.api_key_id,
    "/cases/{id}": lambda victim: victim.case_id,
    "/dicom-web/studies/{study}": lambda victim: f"2.25.{victim.study_id.int}",
    "/dicom-web/studies/{study}/series/{series}": lambda victim: f"2.25.{victim.series_id.int}",
    "/dicom-web/studies/{study}/series/{series}/instances/{instance}": (
        lambda victim: f"2.25.{victim.series_id.int}"
    ),
    "/dicom-web/studies/{study}/series/{series}/instances/{instance}/bulkdata/{tag}": (
        lambda victim: "7FE00010"
    ),
    "/dicom-web/studies/{study}/series/{series}/instances/{instance}/frames/{frames}": lambda victim: 1,
    "/reports/{id}": lambda victim: victim.report_id,
    "/scans/{id}": lambda victim: victim.study_id,
    "/slides/{id}": lambda victim: victim.slide_id,
    "/storage/{bucket}": lambda victim: "studies",
    "/storage/{bucket}/{key}": lambda victim: victim.object_key,
    "/studies/{id}": lambda victim: victim.study_id,
    "/studies/{id}/artifacts/{role}": lambda victim: "overlay",
    "/studies/{id}/files/{file_id}": lambda victim: victim.file_id,
    "/uploads/{id}": lambda victim: victim.upload_id,
    "/users/{id}": lambda victim: victim.user.user_id,
    "/users/{id}/api-keys/{key_id}": lambda victim: victim.api_key_id,
    "/viewer/{slide}": lambda victim: victim.slide_id,
    "/viewer/{slide}_files/{level}": lambda victim: 0,
    "/viewer/{slide}_files/{level}/{col}": lambda victim: 0,
    "/viewer/{slide}_files/{level}/{col}_{row}": lambda victim: 0,
}
"""A path up to and with its last parameter → what of the victim's that parameter names."""
FIELDS: Mapping[str, Aim] = {
    "study_id": lambda victim: victim.study_id,
    "case_id": lambda victim: victim.case_id,
    "ids": lambda victim: victim.slide_id,
    "upload_id": lambda victim: victim.upload_id,
    "uploads": lambda victim: victim.upload_id,
    "task_id": lambda victim: victim.task_id,
    "report_id": lambda victim: victim.report_id,
    "owner_id": lambda victim: victim.user.user_id,
    "user_id": lambda victim: victim.user.user_id,
    "actor_id": lambda victim: victim.user.user_id,
    "patient_id": lambda victim: victim.study_id,
    "subject_id": lambda victim: victim.study_id,
    "DELETE /auth/api-keys?id": lambda victim: victim.api_key_id,
}
"""A query parameter or a body's field → the same; `METHOD /path?name` where the name alone does not say it."""
FREE = {"cursor"}
"""Ids in queries that say nothing of whose things are meant."""


class UnknownAim(AssertionError):
    """A route has a parameter of which this test does not know what of the victim's it names."""


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    access: str
    described: Document = field(repr=False)
    document: Document = field(repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_public(self) -> bool:
        return self.access.startswith("public: ")

    @property
    def action(self) -> Action:
        """What the caller must be allowed."""
        return Action(self.access)

    @property
    def is_aimed(self) -> bool:
        """Whether its path names one thing of somebody's."""
        return "{" in self.path

    def request(self, victim: Victim) -> dict[str, Any]:
        """Arguments of `httpx.Client.request`: nothing is wrong with it but who sends it."""
        return {
            "method": self.method,
            "url": self.path.format(**self.path_parameters(victim)).removeprefix("/"),
            "params": self.query(victim),
            **self._body(victim),
        }

    def path_parameters(self, victim: Victim) -> dict[str, str]:
        """Each parameter of the path → what of the victim's it names."""
        named = {}
        for found in re.finditer(r"\{(\w+)\}", self.path):
            upto = self.path[: found.end()]
            if upto not in PATHS:
                raise UnknownAim(
                    f"{self}: add {upto!r} to PATHS in {__name__}, with what of the victim's the parameter names "
                    f"(make the victim own such a thing in tests/integration/victims.py if there is none yet)"
                )
            named[found[1]] = str(PATHS[upto](victim))
        return named

    def query(self, victim: Victim) -> dict[str, str]:
        """What must be in the query, and every id that may be."""
        query = {}
        for parameter in self.described.get("parameters", ()):
            name, schema = parameter["name"], parameter["schema"]
            if parameter["in"] != "query" or name in FREE:
                continue
            aim = FIELDS.get(f"{self}?{name}") or FIELDS.get(name)
            if aim is not None and (parameter.get("required") or "uuid" in str(schema)):
                query[name] = str(aim(victim))
            elif "uuid" in str(schema):
                raise UnknownAim(
                    f"{self}: add {f'{self}?{name}'!r} to FIELDS in {__name__}, or its name to FREE"
                )
            elif parameter.get("required"):
                query[name] = str(self._value(schema, name, victim))
        return query

    def _body(self, victim: Victim) -> dict[str, Any]:
        content = self.described.get("requestBody", {}).get("content", {})
        if not content:
            return {}
        media_type = next((name for name in MEDIA_TYPES if name in content), None)
        assert media_type, f"{self}: this test cannot write a body of {', '.join(content)}"
        examples = [example["value"] for example in content[media_type].get("examples", {}).values()]
        examples += [content[media_type][name] for name in ("example",) if name in content[media_type]]
        schema = self._resolved(content[media_type]["schema"])
        body = examples[0] if examples else self._value(schema, "", victim)
        if isinstance(body, dict):
            body = {**body, **self._aimed(schema, victim)}
        return MEDIA_TYPES[media_type](body)

    def _aimed(self, schema: Document, victim: Victim) -> dict[str, str | list[str]]:
        """Optional fields too, where they name something of somebody's."""
        fields = schema.get("properties", {})
        aimed = [name for name in fields if name in FIELDS and "uuid" in str(fields[name])]
        named = {name: str(FIELDS[name](victim)) for name in aimed}
        return {name: [one] if fields[name].get("type") == "array" else one for name, one in named.items()}

    def _value(self, schema: Document, name: str, victim: Victim) -> Any:
        """Something small that fits the schema."""
        schema = self._resolved(schema)
        for known in ("const", "default"):
            if known in schema:
                return schema[known]
        if "enum" in schema:
            return schema["enum"][0]
        if name in FIELDS and schema.get("format") == "uuid":
            return str(FIELDS[name](victim))
        kind = schema.get("type", "object")
        if kind == "object":
            first = schema.get("anyOf", [{}])[0].get("required", [])
            wanted = [*schema.get("required", []), *first]
            return {key: self._value(schema["properties"][key], key, victim) for key in wanted}
        if kind == "array":
            return [self._value(schema["items"], name, victim)] * schema.get("minItems", 0)
        if kind == "string":
            return self._string(schema, name)
        return {"integer": 1, "number": 1.0, "boolean": False, "null": None}[kind]

    def _string(self, schema: Document, name: str) -> str:
        text = STRINGS.get(schema.get("format", ""), lambda: "x" * max(1, schema.get("minLength", 1)))()
        fits = re.search(schema.get("pattern", ""), text)
        assert fits, f"{self}: give the body an openapi_examples entry: nothing here fits {name!r}"
        return text

    def _resolved(self, schema: Document) -> Document:
        """Without references, and one alternative of several that differ in type."""
        if "$ref" in schema:
            return self._resolved(self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        for choice in ("anyOf", "oneOf", "allOf"):
            if choice in schema and "type" not in schema:
                return self._resolved(schema[choice][0])
        return schema


STRINGS: Mapping[str, Callable[[], str]] = {
    "uuid": lambda: str(uuid7()),
    "date": lambda: "2026-03-05",
    "date-time": lambda: "2026-03-05T09:30:00Z",
    "email": lambda: "somebody@hospital.example",
    "password": lambda: "correct horse battery",
    "uri": lambda: "https://hospital.example/",
}
MEDIA_TYPES: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "application/json": lambda body: {"json": body},
    "multipart/form-data": lambda body: {"files": {name: (None, str(value)) for name, value in body.items()}},
    "application/x-www-form-urlencoded": lambda body: {"data": body},
    "application/octet-stream": lambda body: {"content": b"x"},
}
"""How a body of this type is handed to httpx; the first that an operation takes is used."""


def operations(api: FastAPI) -> list[Operation]:
    """Every operation of the application's document."""
    document = api.openapi()
    return [
        Operation(method.upper(), path, described[EXTENSION], described, document)
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    ]


def undescribed_routes(api: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of what the application answers beside its document."""
    described = {(operation.method, operation.path) for operation in operations(api)}
    for route in iter_route_contexts(api.routes):
        for method in sorted((route.methods or {"ANY"}) - {"HEAD"}):
            path = route.path_format or route.path or str(route.original_route)
            if (method, path) not in described:
                yield method, path


def said_in(request: Mapping[str, Any]) -> str:
    """What the caller said, which an answer may repeat."""
    return str(
        [request["url"], request["params"], request.get("json"), request.get("files"), request.get("data")]
    )
