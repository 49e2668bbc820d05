"""What administrators may do to accounts, and what comes of it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from httpx import Response
from sqlalchemy import func, select
from starlette.testclient import TestClient

from functions.auth.accounts.service import ensure_admin
from shared.db.models import (
    ApiKey,
    AuditEntry,
    Identity,
    PasswordReset,
    RefreshToken,
    Role,
    Study,
    User,
)
from shared.ids import uuid7
from shared.runtime.services import Services
from shared.security.revocations import Revocations
from tests.builders import make_tenant
from tests.contract.conftest import PASSWORD, ClientFor

Headers = dict[str, str]
MakeAdmin = Callable[..., Headers]
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
def make_admin(client: TestClient, services: Services) -> MakeAdmin:
    """`make_admin(name, tenant)`: headers of an administrator."""

    def make(name: str = "admin", tenant: str = "default") -> Headers:
        ensure_admin(services, f"{name}@hospital.example", PASSWORD, tenant)
        return bearer(log_in(client, name))

    return make


@pytest.fixture
def admin(make_admin: MakeAdmin) -> Headers:
    return make_admin()


@pytest.fixture
def anna(client: TestClient, admin: Headers) -> dict[str, Any]:
    """The account of a doctor."""
    return add(client, admin, "anna", role="doctor", **PROFILE)


def add(client: TestClient, admin: Headers, name: str, **fields: str) -> dict[str, Any]:
    account = {"email": f"{name}@hospital.example", "username": name, "password": PASSWORD, **fields}
    answer = client.post("/api/auth/register", json=account, headers=admin)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def log_in(client: TestClient, name: str) -> dict[str, Any]:
    answer = client.post("/api/auth/login", json={"login": name, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()
    return tokens


def bearer(tokens: dict[str, Any]) -> Headers:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


def own_id(client: TestClient, headers: Headers) -> str:
    return str(client.get("/api/auth/me", headers=headers).json()["id"])


def names(answer: Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [account["username"] for account in answer.json()["items"]]


def audited(services: Services, action: str) -> list[tuple[UUID | None, UUID | None, dict[str, Any]]]:
    """Actor, subject and details of each such row."""
    with services.database.system() as session:
        tenants = set(session.scalars(select(User.tenant_id)))
    rows: list[AuditEntry] = []
    for tenant in tenants:
        with services.database.tenant(tenant) as session:
            query = select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.seq)
            rows += session.scalars(query).all()
    return [(row.actor_id, row.subject_id, row.details) for row in rows]


class TestList:
    def test_shows_the_tenants_accounts_newest_first_without_passwords(
        self, client: TestClient, admin: Headers, anna: dict[str, Any]
    ) -> None:
        answer = client.get("/api/users", headers=admin)
        assert names(answer) == ["anna", "admin"]
        assert answer.json()["items"][0] == anna
        assert "password" not in answer.text

    def test_shows_nobody_of_another_tenant(
        self, client: TestClient, services: Services, anna: dict[str, Any], make_admin: MakeAdmin
    ) -> None:
        make_tenant(services.database, "elsewhere")
        stranger = make_admin("stranger", "elsewhere")
        assert names(client.get("/api/users", headers=stranger)) == ["stranger"]
        for method in ("GET", "PATCH", "DELETE"):
            body = {"role": "user"} if method == "PATCH" else None
            answer = client.request(method, f"/api/users/{anna['id']}", headers=stranger, json=body)
            assert answer.status_code == 404, method

    def test_is_narrowed_by_role_state_and_part_of_a_name(
        self, client: TestClient, admin: Headers, anna: dict[str, Any]
    ) -> None:
        dora = add(client, admin, "dora", role="doctor")
        client.patch(f"/api/users/{dora['id']}", json={"is_active": False}, headers=admin)
        add(client, admin, "per_cent", full_name="100% effort")
        everybody = ["per_cent", "dora", "anna", "admin"]
        expected: list[tuple[dict[str, str], list[str]]] = [
            ({"role": "doctor"}, ["dora", "anna"]),
            ({"role": "pathologist"}, []),
            ({"is_active": "false"}, ["dora"]),
            ({"is_active": "true", "role": "doctor"}, ["anna"]),
            ({"q": "NN"}, ["anna"]),
            ({"q": "radiolog"}, ["anna"]),
            ({"q": "@hospital.example"}, everybody),
            ({"q": ""}, everybody),
            *(({"q": literal}, ["per_cent"]) for literal in ("100%", "%", "_")),
            ({"q": "\\"}, []),
        ]
        for query, found in expected:
            assert names(client.get("/api/users", params=query, headers=admin)) == found, query

    def test_comes_in_pages_that_link_on(self, client: TestClient, admin: Headers) -> None:
        for number in range(4):
            add(client, admin, f"user-{number}")
        url, seen = "/api/users?limit=2", []
        while url:
            answer = client.get(url, headers=admin)
            seen += names(answer)
            url = answer.links.get("next", {}).get("url", "")
        assert seen == ["user-3", "user-2", "user-1", "user-0", "admin"]

    def test_refuses_wrong_filters(self, client: TestClient, admin: Headers) -> None:
        for query in ({"role": "king"}, {"is_active": "maybe"}, {"q": "x" * 255}, {"q": "\0"}):
            assert client.get("/api/users", params=query, headers=admin).status_code == 422, query


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
def test_others_may_not_administer_accounts_not_even_their_own(
    client: TestClient, admin: Headers, role: str
) -> None:
    account = add(client, admin, "somebody", role=role)
    headers, url = bearer(log_in(client, "somebody")), f"/api/users/{account['id']}"
    before = client.get(url, headers=admin).json()
    assert client.get("/api/users", headers=headers).status_code == 403
    assert client.get(url, headers=headers).status_code == 403
    assert client.patch(url, json={"role": "admin"}, headers=headers).status_code == 403
    assert client.delete(url, headers=headers).status_code == 403
    assert client.get(url, headers=admin).json() == before


class TestChange:
    def test_sets_what_is_sent_and_leaves_the_rest(
        self, client: TestClient, admin: Headers, anna: dict[str, Any]
    ) -> None:
        answer = client.patch(
            f"/api/users/{anna['id']}",
            json={"role": "radiologist", "fullName": "A. B.", "phone": None, "email": "new@hospital.example"},
            headers=admin,
        )
        assert answer.status_code == 200, answer.text
        names = {"full_name": "A. B.", "fullName": "A. B."}
        expected = {**anna, **names, "role": "radiologist", "phone": None}
        assert {**answer.json(), "updated_at": None} == {**expected, "updated_at": None}
        assert client.get(f"/api/users/{anna['id']}", headers=admin).json() == answer.json()

    def test_refuses_wrong_content(self, client: TestClient, admin: Headers, anna: dict[str, Any]) -> None:
        url = f"/api/users/{anna['id']}"
        wrong: list[dict[str, Any]] = [
            {"role": "king"},
            {"role": None},
            {"is_active": None},
            {"title": "a\nb"},
        ]
        for change in wrong:
            assert client.patch(url, json=change, headers=admin).status_code == 422, change
        assert client.get(url, headers=admin).json() == anna

    @pytest.mark.parametrize("change", [{"role": "user"}, {"is_active": False}])
    def test_of_role_or_state_ends_the_sessions_here_and_in_other_processes(
        self,
        client: TestClient,
        services: Services,
        admin: Headers,
        anna: dict[str, Any],
        change: dict[str, Any],
    ) -> None:
        tokens = log_in(client, "anna")
        assert client.get("/api/auth/me", headers=bearer(tokens)).status_code == 200
        client.patch(f"/api/users/{anna['id']}", json=change, headers=admin)
        assert client.get("/api/auth/me", headers=bearer(tokens)).status_code == 401
        refresh = {"refresh_token": tokens["refresh_token"]}
        assert client.post("/api/auth/refresh", json=refresh).status_code == 401
        elsewhere = Revocations(services.database, timedelta(minutes=15), 60)
        before = datetime.now(UTC)
        assert not elsewhere.covers(UUID(anna["id"]), uuid7(), before - timedelta(minutes=1))
        elsewhere.refresh()
        assert elsewhere.covers(UUID(anna["id"]), uuid7(), before - timedelta(minutes=1))

    @pytest.mark.parametrize("change", [{"department": "Neurology"}, {"role": "doctor", "is_active": True}])
    def test_of_anything_else_ends_none(
        self, client: TestClient, admin: Headers, anna: dict[str, Any], change: dict[str, Any]
    ) -> None:
        tokens = log_in(client, "anna")
        assert client.patch(f"/api/users/{anna['id']}", json=change, headers=admin).status_code == 200
        assert client.get("/api/auth/me", headers=bearer(tokens)).status_code == 200

    def test_takes_effect_at_the_next_log_in(
        self, client: TestClient, admin: Headers, anna: dict[str, Any]
    ) -> None:
        client.patch(f"/api/users/{anna['id']}", json={"role": "admin"}, headers=admin)
        assert client.get("/api/users", headers=bearer(log_in(client, "anna"))).status_code == 200
        client.patch(f"/api/users/{anna['id']}", json={"is_active": False}, headers=admin)
        refused = client.post("/api/auth/login", json={"login": "anna", "password": PASSWORD})
        assert refused.status_code == 401
        client.patch(f"/api/users/{anna['id']}", json={"is_active": True}, headers=admin)
        log_in(client, "anna")

    def test_to_active_lifts_the_lock_of_wrong_passwords(
        self, client: TestClient, services: Services, admin: Headers, anna: dict[str, Any]
    ) -> None:
        for _ in range(services.settings.account_failures + 1):
            client.post("/api/auth/login", json={"login": "anna", "password": "wrong wrong"})
        right = {"login": "anna", "password": PASSWORD}
        assert client.post("/api/auth/login", json=right).status_code == 429
        client.patch(f"/api/users/{anna['id']}", json={"department": "Neurology"}, headers=admin)
        assert client.post("/api/auth/login", json=right).status_code == 429
        client.patch(f"/api/users/{anna['id']}", json={"is_active": True}, headers=admin)
        assert client.post("/api/auth/login", json=right).status_code == 200

    def test_of_nobody_is_not_found(self, client: TestClient, admin: Headers) -> None:
        for method in ("GET", "PATCH", "DELETE"):
            body = {"role": "user"} if method == "PATCH" else None
            answer = client.request(method, f"/api/users/{uuid7()}", headers=admin, json=body)
            assert answer.status_code == 404
            assert client.request(method, "/api/users/me", headers=admin, json=body).status_code == 422


class TestVersions:
    def test_a_change_of_what_was_read_succeeds_and_of_an_older_state_does_not(
        self, client: TestClient, admin: Headers, anna: dict[str, Any]
    ) -> None:
        url = f"/api/users/{anna['id']}"
        read = client.get(url, headers=admin).headers["etag"]
        first = client.patch(url, json={"title": "Dr"}, headers={**admin, "If-Match": read})
        assert first.status_code == 200
        assert first.headers["etag"] == client.get(url, headers=admin).headers["etag"] != read
        second = client.patch(url, json={"title": "Prof"}, headers={**admin, "If-Match": read})
        assert second.status_code == 412
        assert second.json()["type"].endswith("/precondition-failed")
        assert client.get(url, headers=admin).json()["title"] == "Dr"

    def test_conditions_are_read_as_http_has_them(
        self, client: TestClient, admin: Headers, anna: dict[str, Any]
    ) -> None:
        url = f"/api/users/{anna['id']}"
        tag = client.get(url, headers=admin).headers["etag"]
        for condition, status in (("*", 200), (f'"x", {tag}', 200), (f"W/{tag}", 412), ("", 412)):
            answer = client.patch(url, json={}, headers={**admin, "If-Match": condition})
            assert answer.status_code == status, condition


class TestLastAdministrator:
    @pytest.mark.parametrize("change", [{"role": "user"}, {"is_active": False}, None])
    def test_cannot_leave_by_their_own_hand(
        self, client: TestClient, admin: Headers, change: dict[str, Any] | None
    ) -> None:
        url = f"/api/users/{own_id(client, admin)}"
        answer = client.request("PATCH" if change else "DELETE", url, json=change, headers=admin)
        assert answer.status_code == 409
        assert "another administrator" in answer.json()["detail"]
        assert client.get(url, headers=admin).json()["role"] == "admin"

    def test_may_change_their_own_profile(self, client: TestClient, admin: Headers) -> None:
        url = f"/api/users/{own_id(client, admin)}"
        change = {"title": "Dr", "role": "admin", "is_active": True}
        assert client.patch(url, json=change, headers=admin).json()["title"] == "Dr"

    def test_is_left_when_all_administrators_remove_each_other_at_once(
        self, client: TestClient, services: Services, make_admin: MakeAdmin
    ) -> None:
        admins = [make_admin(f"admin-{number}") for number in range(4)]
        ids = [own_id(client, headers) for headers in admins]
        pairs = [(headers, target) for headers in admins for target in ids]

        def demote(pair: tuple[Headers, str]) -> int:
            headers, target = pair
            status: int = client.patch(
                f"/api/users/{target}", json={"role": "user"}, headers=headers
            ).status_code
            return status

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(demote, pairs))
        assert set(statuses) <= {200, 401, 403, 409}
        with services.database.system() as session:
            left = session.scalars(select(func.count()).where(User.role == Role.ADMIN, User.is_active)).one()
        assert left == 1

    def test_who_was_demoted_elsewhere_a_moment_ago_changes_nobody(
        self, client: TestClient, services: Services, make_admin: MakeAdmin, anna: dict[str, Any]
    ) -> None:
        other = make_admin("other")
        with services.database.system() as session:  # by a process whose word has not come here yet
            session.get_one(User, UUID(own_id(client, other))).role = Role.USER
        assert client.delete(f"/api/users/{anna['id']}", headers=other).status_code == 403
        assert client.get("/api/auth/me", headers=bearer(log_in(client, "anna"))).status_code == 200


class TestRemoval:
    def test_keeps_the_studies_and_severs_the_person(
        self, client: TestClient, services: Services, admin: Headers, anna: dict[str, Any]
    ) -> None:
        user_id = UUID(anna["id"])
        tokens = log_in(client, "anna")
        key = client.post("/api/auth/api-keys", json={"name": "anna's laptop"}, headers=bearer(tokens)).json()
        with services.database.system() as session:
            tenant_id = session.get_one(User, user_id).tenant_id
        owned = {"tenant_id": tenant_id, "user_id": user_id}
        with services.database.tenant(tenant_id) as session:
            session.add(Identity(**owned, issuer="https://id.example", subject="anna-1"))
            session.add(PasswordReset(**owned, token_hash=b"x", expires_at=func.now()))
            session.add(
                Study(tenant_id=tenant_id, owner_id=user_id, kind="oct", patient_id="P-1", digest="d")
            )
        answer = client.delete(f"/api/users/{user_id}", headers=admin)
        assert (answer.status_code, answer.content) == (204, b"")

        assert client.get("/api/auth/me", headers=bearer(tokens)).status_code == 401
        assert client.get("/api/auth/me", headers={"X-API-Key": key["key"]}).status_code == 401
        refresh = {"refresh_token": tokens["refresh_token"]}
        assert client.post("/api/auth/refresh", json=refresh).status_code == 401
        for name in ("anna", anna["email"], f"removed:{user_id}", f"removed:{user_id}@invalid"):
            login = client.post("/api/auth/login", json={"login": name, "password": PASSWORD})
            assert login.status_code == 401
        with services.database.tenant(tenant_id) as session:
            assert session.scalars(select(Study.owner_id)).one() == user_id
            row = session.get_one(User, user_id)
            kept = {name: value for name, value in vars(row).items() if value is not None}
            for table in (Identity, PasswordReset, ApiKey):
                assert session.scalars(select(func.count()).where(table.user_id == user_id)).one() == 0
            live = select(func.count()).where(
                RefreshToken.user_id == user_id, RefreshToken.revoked_at.is_(None)
            )
            assert session.scalars(live).one() == 0
        assert "anna" not in str(kept).lower() and not set(PROFILE) & kept.keys()
        assert row.password_hash is None and not row.is_active and row.deleted_at is not None

    def test_hides_the_account_and_is_done_once(
        self, client: TestClient, admin: Headers, anna: dict[str, Any]
    ) -> None:
        url = f"/api/users/{anna['id']}"
        assert client.delete(url, headers=admin).status_code == 204
        assert names(client.get("/api/users", headers=admin)) == ["admin"]
        assert names(client.get("/api/users", params={"q": "removed"}, headers=admin)) == []
        assert client.get(url, headers=admin).status_code == 404
        assert client.patch(url, json={"is_active": True}, headers=admin).status_code == 404
        assert client.delete(url, headers=admin).status_code == 404

    def test_frees_the_address_and_the_username(
        self, client: TestClient, admin: Headers, anna: dict[str, Any]
    ) -> None:
        client.delete(f"/api/users/{anna['id']}", headers=admin)
        again = add(client, admin, "anna")
        assert again["id"] != anna["id"]
        log_in(client, "anna")

    def test_cannot_be_kept_from_happening_by_taking_the_name_that_it_gives(
        self, client: TestClient, admin: Headers, anna: dict[str, Any]
    ) -> None:
        name = f"removed:{anna['id']}"
        for squatter in ({"username": name, "email": "s@x.example"}, {"email": f"{name}@invalid"}):
            answer = client.post("/api/auth/register", json={**squatter, "password": PASSWORD})
            assert answer.status_code == 422


def test_everything_is_in_the_audit_log(
    client: TestClient, services: Services, admin: Headers, anna: dict[str, Any]
) -> None:
    me, her = UUID(own_id(client, admin)), UUID(anna["id"])
    url = f"/api/users/{her}"
    client.get("/api/users", params={"q": "anna"}, headers=admin)
    client.get(url, headers=admin)
    client.patch(url, json={"role": "user", "is_active": False, "title": "Prof"}, headers=admin)
    client.delete(url, headers=admin)
    assert audited(services, "user.list") == [(me, None, {"count": 1})]
    assert audited(services, "user.read") == [(me, her, {})]
    change = {
        "fields": ["is_active", "role", "title"],
        "role": {"old": "doctor", "new": "user"},
        "is_active": {"old": True, "new": False},
    }
    assert audited(services, "user.update") == [(me, her, change)]
    assert audited(services, "user.delete") == [(me, her, {})]
