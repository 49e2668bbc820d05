"""Every older route that the table names works as its older system documented it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from httpx import Response
from starlette.testclient import TestClient

from functions.auth.accounts.service import ensure_admin
from functions.auth.passwords.repository import add_reset
from functions.compat import ROUTES, markdown
from functions.host import Host, load_functions
from shared.db.models import User
from shared.http.older_routes import OlderRoute
from shared.runtime.postgres_bus import PostgresBus
from shared.runtime.services import Services
from shared.security.api_keys import secret_hash
from tests.contract.conftest import PASSWORD, LogIn

Headers = dict[str, str]
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "older-systems.md"
NEW_PASSWORD = "correct horse battery staple"
REGISTRATION = {"email": "eve@hospital.example", "username": "eve", "password": PASSWORD}


class Scene:
    """A deployment with an administrator and anna, who is logged in."""

    def __init__(self, client: TestClient, services: Services, register_and_login: LogIn) -> None:
        self.client = client
        self.services = services
        ensure_admin(services, "admin@hospital.example", PASSWORD)
        self.anna = register_and_login(client, "anna")
        self.anna_id = str(client.get("/api/auth/me", headers=self.anna).json()["id"])
        tokens = self.log_in("admin").json()
        self.admin = {"Authorization": f"Bearer {tokens['access_token']}"}

    def log_in(self, name: str, password: str = PASSWORD) -> Response:
        answer: Response = self.client.post("/api/auth/login", json={"login": name, "password": password})
        return answer

    def ask(
        self, method: str, path: str, json: dict[str, Any] | None = None, headers: Headers | None = None
    ) -> Response:
        """As older clients wrote paths: under /api, with a slash at the end."""
        path = path.replace("{id}", self.anna_id)
        answer: Response = self.client.request(method, f"/api{path}/", json=json, headers=headers)
        return answer


@pytest.fixture
def scene(services: Services, register_and_login: LogIn) -> Iterator[Scene]:
    app = Host(load_functions(), services, PostgresBus(services.database), {}).app
    with TestClient(app) as client:
        client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # older clients send tokens
        yield Scene(client, services, register_and_login)


def registers(scene: Scene) -> None:
    answer = scene.ask("POST", "/users/register", REGISTRATION)
    assert (answer.status_code, answer.json()["username"]) == (201, "eve")
    assert scene.log_in("eve").status_code == 200


def logs_in(scene: Scene) -> None:
    answer = scene.ask("POST", "/users/login", {"email": "anna@hospital.example", "password": PASSWORD})
    assert answer.status_code == 200
    headers = {"Authorization": f"Bearer {answer.json()['access']}"}
    assert scene.ask("GET", "/users/profile", headers=headers).json()["username"] == "anna"
    assert answer.json()["refresh"]


def refreshes(scene: Scene) -> None:
    answer = scene.ask("POST", "/users/refresh", {"refresh": scene.log_in("anna").json()["refresh"]})
    headers = {"Authorization": f"Bearer {answer.json()['access']}"}
    assert scene.ask("GET", "/users/profile", headers=headers).status_code == 200


def logs_out(scene: Scene) -> None:
    token = {"refresh": scene.log_in("anna").json()["refresh"]}
    assert scene.ask("POST", "/users/logout", token).status_code == 204
    assert scene.ask("POST", "/users/refresh", token).status_code == 401


def resets_a_password_by_token(scene: Scene) -> None:
    with scene.services.database.system() as session:
        user = session.get_one(User, UUID(scene.anna_id))
        add_reset(session, user, secret_hash("hpr_token"), datetime.now(UTC) + timedelta(minutes=5))
    answer = scene.ask("POST", "/users/reset-password", {"token": "hpr_token", "password": NEW_PASSWORD})
    assert answer.status_code == 204
    assert scene.log_in("anna", NEW_PASSWORD).status_code == 200


def shows_the_profile(scene: Scene) -> None:
    assert scene.ask("GET", "/users/profile", headers=scene.anna).json()["id"] == scene.anna_id
    head = scene.ask("HEAD", "/users/profile", headers=scene.anna)
    assert (head.status_code, head.content) == (200, b"")


def updates_the_profile(scene: Scene) -> None:
    change = {"fullName": "A. B.", "specialty": "Neuroradiology"}
    answer = scene.ask("PATCH", "/users/profile/update", change, scene.anna)
    assert (answer.status_code, answer.json()["full_name"]) == (200, "A. B.")


def changes_the_password(scene: Scene) -> None:
    change = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}
    answer = scene.ask("POST", "/users/profile/change-password", change, scene.anna)
    assert answer.status_code == 200, answer.text
    assert scene.log_in("anna", NEW_PASSWORD).status_code == 200


def lists_accounts(scene: Scene) -> None:
    answer = scene.client.get("/api/users/users/", params={"limit": 1}, headers=scene.admin)
    assert [account["username"] for account in answer.json()["items"]] == ["anna"]
    rest = scene.client.get(answer.links["next"]["url"], headers=scene.admin).json()
    assert [account["username"] for account in rest["items"]] == ["admin"]
    assert scene.ask("GET", "/users/users", headers=scene.anna).status_code == 403


def shows_an_account(scene: Scene) -> None:
    answer = scene.ask("GET", "/users/users/{id}", headers=scene.admin)
    assert answer.json()["username"] == "anna"
    assert scene.ask("GET", "/users/users/{id}", headers=scene.anna).status_code == 403


def changes_an_account(scene: Scene) -> None:
    answer = scene.ask("PATCH", "/users/users/{id}", {"role": "doctor"}, scene.admin)
    assert answer.json()["role"] == "doctor"


def removes_an_account(scene: Scene) -> None:
    assert scene.ask("DELETE", "/users/users/{id}", headers=scene.admin).status_code == 204
    assert scene.log_in("anna").status_code == 401


def has_a_case(scene: Scene) -> str:
    """The id of a case of anna's, made as older clients did."""
    case = {"age": 61, "gender": "Female", "diagnosis": "Suspected glioma", "status": "In Progress"}
    answer = scene.ask("POST", "/cases", case, scene.anna)
    assert answer.status_code == 201, answer.text
    shown = scene.ask("GET", f"/cases/{answer.json()['id']}", headers=scene.anna).json()
    assert (shown["gender"], shown["status"]) == ("female", "in_progress")
    assert shown["created_by"] == scene.anna_id
    assert scene.ask("GET", f"/cases/{shown['id']}/images", headers=scene.anna).json()["items"] == []
    return str(shown["id"])


def changes_a_case(scene: Scene) -> None:
    case_id = has_a_case(scene)
    answer = scene.ask("PATCH", f"/cases/{case_id}/update", {"status": "Completed"}, scene.anna)
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")


def deletes_a_case(scene: Scene) -> None:
    case_id = has_a_case(scene)
    assert scene.ask("DELETE", f"/cases/{case_id}/delete", headers=scene.anna).status_code == 204
    assert scene.ask("GET", f"/cases/{case_id}", headers=scene.anna).status_code == 404


WORKS: dict[tuple[str, str], Callable[[Scene], None]] = {
    ("POST", "/users/register"): registers,
    ("POST", "/users/login"): logs_in,
    ("POST", "/users/refresh"): refreshes,
    ("POST", "/users/logout"): logs_out,
    ("POST", "/users/reset-password"): resets_a_password_by_token,
    ("GET", "/users/profile"): shows_the_profile,
    ("PATCH", "/users/profile/update"): updates_the_profile,
    ("POST", "/users/profile/change-password"): changes_the_password,
    ("GET", "/users/users"): lists_accounts,
    ("GET", "/users/users/{id}"): shows_an_account,
    ("PATCH", "/users/users/{id}"): changes_an_account,
    ("DELETE", "/users/users/{id}"): removes_an_account,
    ("PATCH", "/cases/{id}/update"): changes_a_case,
    ("DELETE", "/cases/{id}/delete"): deletes_a_case,
}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_line_of_the_table_works(scene: Scene, route: OlderRoute) -> None:
    WORKS[route.method, route.path](scene)


def test_every_line_asks_for_the_access_that_todays_route_asks_for(scene: Scene) -> None:
    for route in ROUTES:
        older = scene.ask(route.method, route.path)
        today = scene.ask(route.new_method, route.new_path)
        assert older.status_code == today.status_code in (400, 401, 422), route
        assert older.json() == today.json(), route


def test_todays_routes_are_not_in_the_way_and_not_in_the_shade(scene: Scene) -> None:
    """`/users/{id}` would take `profile` for an id, and a table too greedy would take an id for `users`."""
    assert scene.ask("GET", "/users/{id}", headers=scene.admin).json()["username"] == "anna"
    assert scene.ask("GET", "/users", headers=scene.admin).status_code == 200
    assert scene.ask("DELETE", "/users/profile", headers=scene.admin).status_code == 422
    assert scene.ask("GET", "/users/users/{id}/more", headers=scene.admin).status_code == 404


def test_the_table_in_the_documentation_is_the_one_that_runs() -> None:
    assert markdown() in DOCUMENT.read_text("utf-8")
