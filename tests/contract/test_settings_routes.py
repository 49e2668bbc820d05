"""`/user/settings`, as an older system documented it: one's own account by another name."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.contract.conftest import ClientFor, LogIn

PROFILE = {
    "full_name": "A. Radiologist",
    "title": "Consultant",
    "department": "Radiology",
    "specialty": "Neuroradiology",
    "institution": "A hospital",
    "phone": "+44 20 7946 0000",
}


@pytest.fixture
def client(client_for: ClientFor) -> TestClient:
    return client_for()


@pytest.fixture
def anna(client: TestClient, register_and_login: LogIn) -> dict[str, str]:
    """Headers of a user."""
    return register_and_login(client, "anna")


def show(client: TestClient, headers: dict[str, str], path: str = "/user/settings") -> dict[str, Any]:
    answer = client.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def change(client: TestClient, headers: dict[str, str], **fields: Any) -> dict[str, Any]:
    answer = client.put("/user/settings", json=fields, headers=headers)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def test_show_the_account_with_address_and_username(client: TestClient, anna: dict[str, str]) -> None:
    shown = show(client, anna)
    assert (shown["email"], shown["username"]) == ("anna@hospital.example", "anna")
    assert shown.keys() >= PROFILE.keys() | {"fullName"}
    assert shown == show(client, anna, "/api/auth/me")


def test_what_is_put_stays_and_the_rest_is_left_alone(client: TestClient, anna: dict[str, str]) -> None:
    change(client, anna, **PROFILE)
    change(client, anna, department="Neuroradiology", phone=None)
    shown = show(client, anna, "/api/user/settings/")
    assert {name: shown[name] for name in PROFILE} == {
        **PROFILE,
        "department": "Neuroradiology",
        "phone": None,
    }


def test_the_full_name_is_taken_and_shown_in_camel_case_too(client: TestClient, anna: dict[str, str]) -> None:
    shown = change(client, anna, fullName="A. Radiologist")
    assert (shown["full_name"], shown["fullName"]) == ("A. Radiologist", "A. Radiologist")
    assert show(client, anna, "/api/auth/me")["fullName"] == "A. Radiologist"


@pytest.mark.parametrize("edited", ["full_name", "fullName"])
@pytest.mark.parametrize("name", ["Another name", None])
def test_an_account_that_is_sent_back_with_one_spelling_edited_gets_that_one(
    client: TestClient, anna: dict[str, str], edited: str, name: str | None
) -> None:
    shown = change(client, anna, **PROFILE)
    assert change(client, anna, **{**shown, edited: name})["full_name"] == name


@pytest.mark.parametrize("field", ["email", "username", "role", "is_active", "id"])
def test_who_one_is_cannot_be_set_here(client: TestClient, anna: dict[str, str], field: str) -> None:
    before = show(client, anna)
    change(client, anna, **{field: "admin"})
    assert show(client, anna)[field] == before[field]


@pytest.mark.parametrize("field", ["full_name", "fullName", "phone"])
@pytest.mark.parametrize("value", ["two\nlines", "x" * 255, 7])
def test_a_value_that_is_no_line_of_text_is_refused(
    client: TestClient, anna: dict[str, str], field: str, value: object
) -> None:
    assert client.put("/user/settings", json={field: value}, headers=anna).status_code == 422


def test_need_a_log_in(client: TestClient) -> None:
    assert (
        client.get("/user/settings").status_code == client.put("/user/settings", json={}).status_code == 401
    )
