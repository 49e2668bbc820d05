"""A route that does not say what it allows keeps the application from starting."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import APIRouter

from shared.config import Settings
from shared.http.access import EXTENSION, StudiesReader, StudiesWriter, public
from shared.http.app import create_api
from shared.runtime.function import Function
from shared.runtime.services import Services


@pytest.fixture
def router() -> APIRouter:
    """A feature's router within a function's router, as functions are built."""
    return APIRouter(prefix="/things")


@pytest.fixture
def document(router: APIRouter, tmp_path: Path) -> Any:
    """`document()` starts an application with the router; returns its OpenAPI document."""
    services = cast(Services, SimpleNamespace(settings=Settings(data_dir=tmp_path)))

    def start() -> dict[str, Any]:
        outer = APIRouter(prefix="/outer")
        outer.include_router(router)
        return create_api([Function("things", outer)], services, {}).openapi()

    return start


def test_a_route_that_says_nothing_is_found_however_deep_it_is_included(
    router: APIRouter, document: Any
) -> None:
    @router.get("/{id}")
    def careless(id: str) -> str:
        return id

    with pytest.raises(ValueError, match=re.escape("['GET'] /outer/things/{id} must say what it allows")):
        document()


def test_a_route_that_is_left_out_of_the_document_is_held_to_it_too(router: APIRouter, document: Any) -> None:
    @router.get("/hidden", include_in_schema=False)
    def careless() -> None: ...

    with pytest.raises(ValueError, match="/outer/things/hidden must say what it allows"):
        document()


def test_a_route_that_says_two_things_says_nothing(router: APIRouter, document: Any) -> None:
    @router.get("")
    def unsure(reader: StudiesReader, writer: StudiesWriter) -> None: ...

    with pytest.raises(ValueError, match="/outer/things must say what it allows"):
        document()


def test_the_document_tells_what_each_operation_needs(router: APIRouter, document: Any) -> None:
    @router.get("")
    def read(user: StudiesReader) -> None: ...

    @router.put("")
    @router.post("")
    def write(user: StudiesWriter) -> None: ...

    @router.get("/weather")
    @public("the weather is nobody's")
    def weather() -> None: ...

    paths = document()["paths"]
    told = {method: operation[EXTENSION] for method, operation in paths["/outer/things"].items()}
    assert told == {"get": "studies:read", "post": "studies:write", "put": "studies:write"}
    assert paths["/outer/things/weather"]["get"][EXTENSION] == "public: the weather is nobody's"
    assert all(EXTENSION in operation for methods in paths.values() for operation in methods.values())


def test_the_same_routes_may_be_hosted_twice(router: APIRouter, document: Any) -> None:
    @router.get("")
    def read(user: StudiesReader) -> None: ...

    assert document() == document()
