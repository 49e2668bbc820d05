"""API keys: how they are made, what they are good for, how they end."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from httpx import Response
from sqlalchemy import select, update
from starlette.testclient import TestClient

from functions import studies
from functions.auth.accounts.service import ensure_admin
from functions.auth.api_keys.service import MAX_LIVE
from shared.db.models import ApiKey, AuditEntry, Role, User
from shared.ids import uuid7
from shared.runtime.services import Services
from shared.security.api_keys import verify_key
from shared.security.policy import DEFAULT_SCOPES, GRANTABLE, Action, Reach
from tests.contract.conftest import PASSWORD, ClientFor, LogIn

Headers = dict[str, str]
URL = "/api/auth/api-keys"


@pytest.fixture
def client(client_for: ClientFor) -> TestClient:
    return client_for(studies.function)


@pytest.fixture
def anna(client: TestClient, register_and_login: LogIn) -> Headers:
    return register_and_login(client, "anna")


@pytest.fixture
def admin(client: TestClient, services: Services) -> Headers:
    ensure_admin(services, "admin@hospital.example", PASSWORD)
    token = client.post("/api/auth/login", json={"login": "admin", "password": PASSWORD}).json()
    return {"Authorization": f"Bearer {token['access_token']}"}


def make(client: TestClient, headers: Headers, **fields: Any) -> dict[str, Any]:
    answer = client.post(URL, json={"name": "Scanner 3", **fields}, headers=headers)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def bearer(key: dict[str, Any]) -> Headers:
    return {"Authorization": f"Bearer {key['key']}"}


def listed(client: TestClient, headers: Headers, url: str = URL) -> list[dict[str, Any]]:
    answer = client.get(url, headers=headers)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def own_account(client: TestClient, headers: Headers) -> dict[str, Any]:
    account: dict[str, Any] = client.get("/api/auth/me", headers=headers).json()
    return account


def assert_refused(answer: Response) -> None:
    assert answer.status_code == 401
    assert "unknown, expired or revoked" in answer.json()["detail"]


class TestMaking:
    def test_shows_the_key_once_and_keeps_its_hash(
        self, client: TestClient, services: Services, anna: Headers
    ) -> None:
        answer = client.post(URL, json={"name": "Scanner 3"}, headers=anna)
        made = answer.json()
        assert answer.headers["cache-control"] == "no-store"
        assert made["key"].startswith("hsk_") and len(made["key"]) >= 4 + 43  # 256 bits in base64
        assert made["prefix"] == made["key"][:12]
        assert listed(client, anna) == [{name: value for name, value in made.items() if name != "key"}]
        with services.database.system() as session:
            row = session.scalars(select(ApiKey)).one()
        assert row.key_hash == hashlib.sha256(made["key"].encode()).digest()
        assert made["key"] not in str(vars(row))

    def test_is_by_default_for_work_and_not_for_the_account_and_never_ends(
        self, client: TestClient, anna: Headers
    ) -> None:
        made = make(client, anna)
        assert set(made["scopes"]) == DEFAULT_SCOPES
        assert (made["expires_at"], made["last_used_at"], made["revoked_at"]) == (None, None, None)

    def test_takes_scopes_and_an_end(self, client: TestClient, anna: Headers) -> None:
        at = datetime.now(UTC) + timedelta(days=3)
        made = make(client, anna, scopes=["reports:read", "reports:read"], expires_at=at.isoformat())
        assert made["scopes"] == ["reports:read"]
        assert datetime.fromisoformat(made["expires_at"]) == at
        in_days = datetime.fromisoformat(make(client, anna, expires_in_days=90)["expires_at"])
        assert abs(in_days - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=1)

    def test_refuses_what_no_key_or_not_this_role_may_do_and_says_what_it_may(
        self, client: TestClient, anna: Headers
    ) -> None:
        for scope in (*sorted(set(Action) - GRANTABLE), "audit:read", "everything", ""):
            answer = client.post(URL, json={"name": "x", "scopes": ["studies:read", scope]}, headers=anna)
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["field"] == "scopes"
            assert all(allowed in answer.json()["detail"] for allowed in DEFAULT_SCOPES)
        assert listed(client, anna) == []

    def test_gives_administrators_the_audit_log_when_they_ask(
        self, client: TestClient, admin: Headers
    ) -> None:
        assert make(client, admin, scopes=["audit:read"])["scopes"] == ["audit:read"]
        assert "audit:read" not in make(client, admin)["scopes"]

    def test_refuses_wrong_content(self, client: TestClient, anna: Headers) -> None:
        wrong: list[dict[str, Any]] = [
            {"name": ""},
            {"name": None},
            {"name": "a\nb"},
            {"scopes": []},
            {"expires_at": "2020-01-01T00:00:00Z"},
            {"expires_at": "2999-01-01T00:00:00"},
            {"expires_at": "2999-01-01T00:00:00Z"},
            {"expires_at": "9999-12-31T23:59:59-10:00"},
            {"expires_at": "0001-01-01T00:00:00+10:00"},
            {"expires_at": (datetime.now(UTC) + timedelta(days=3651)).isoformat()},
            {"expires_at": 99999999999999},
            {"expires_at": str(int(time.time()) + 3600)},
            {"expires_at": "tomorrow"},
            {"expires_in_days": 0},
            {"expires_in_days": 100_000},
            {"expires_in_days": 3, "expires_at": "2999-01-01T00:00:00Z"},
        ]
        for fields in wrong:
            answer = client.post(URL, json={"name": "x", **fields}, headers=anna)
            assert answer.status_code == 422, fields
        assert listed(client, anna) == []

    @pytest.mark.parametrize("offset", [-15, 0, 15])
    def test_of_the_longest_life_can_be_used_listed_and_revoked(
        self, client: TestClient, anna: Headers, offset: int
    ) -> None:
        zone = timezone(timedelta(hours=offset, minutes=59))
        at = datetime.now(zone) + timedelta(days=3650) - timedelta(minutes=1)
        key = make(client, anna, expires_at=at.isoformat())
        assert client.get("/api/auth/me", headers=bearer(key)).status_code == 200
        [shown] = listed(client, anna)
        assert datetime.fromisoformat(shown["expires_at"]) == at
        assert client.delete(f"{URL}/{key['id']}", headers=anna).status_code == 204

    def test_stops_at_the_most_that_an_account_may_have_however_many_ask_at_once(
        self, client: TestClient, services: Services, anna: Headers
    ) -> None:
        first = make(client, anna)
        with services.database.system() as session:
            row = session.scalars(select(ApiKey)).one()
            owner = {"tenant_id": row.tenant_id, "user_id": row.user_id}
            for number in range(MAX_LIVE - 3):
                key_hash = str(number).encode()
                session.add(ApiKey(**owner, name="x", prefix="hsk_", key_hash=key_hash, scopes=[]))

        def ask(_: int) -> int:
            status: int = client.post(URL, json={"name": "x"}, headers=anna).status_code
            return status

        with ThreadPoolExecutor(6) as pool:
            statuses = sorted(pool.map(ask, range(6)))
        assert statuses == [201, 201, 409, 409, 409, 409]
        assert client.delete(f"{URL}/{first['id']}", headers=anna).status_code == 204
        assert ask(0) == 201  # those that were revoked do not count


class TestUse:
    def test_is_as_bearer_or_in_a_header_of_its_own(self, client: TestClient, anna: Headers) -> None:
        key = make(client, anna)
        for headers in (bearer(key), {"authorization": f"bearer {key['key']}"}, {"x-api-key": key["key"]}):
            assert own_account(client, headers)["username"] == "anna"

    def test_is_noted(self, client: TestClient, services: Services, anna: Headers) -> None:
        key = make(client, anna)
        own_account(client, bearer(key))
        noted = datetime.fromisoformat(listed(client, anna)[0]["last_used_at"])
        assert abs(datetime.now(UTC) - noted) < timedelta(minutes=1)
        own_account(client, bearer(key))  # once a minute is enough
        assert datetime.fromisoformat(listed(client, anna)[0]["last_used_at"]) == noted
        with services.database.system() as session:
            session.execute(update(ApiKey).values(last_used_at=noted - timedelta(hours=1)))
        own_account(client, bearer(key))
        assert datetime.fromisoformat(listed(client, anna)[0]["last_used_at"]) > noted

    @pytest.mark.parametrize(
        ("scope", "path"),
        [("studies:read", "/api/studies"), ("account:read", "/api/auth/me")],
    )
    def test_reaches_no_further_than_its_scopes(
        self, client: TestClient, anna: Headers, scope: str, path: str
    ) -> None:
        others = sorted(DEFAULT_SCOPES - {Action(scope)})
        assert client.get(path, headers=bearer(make(client, anna, scopes=[scope]))).status_code == 200
        refused = client.get(path, headers=bearer(make(client, anna, scopes=others)))
        assert refused.status_code == 403
        assert scope in refused.json()["detail"]

    def test_cannot_manage_keys_or_accounts_or_change_its_owner(
        self, client: TestClient, admin: Headers
    ) -> None:
        key = make(client, admin, scopes=sorted(GRANTABLE))
        me = own_account(client, admin)["id"]
        for method, path in (
            ("GET", URL),
            ("POST", URL),
            ("DELETE", f"{URL}/{key['id']}"),
            ("DELETE", f"{URL}?id={key['id']}"),
            ("GET", "/api/users"),
            ("GET", f"/api/users/{me}"),
            ("PATCH", f"/api/users/{me}"),
            ("DELETE", f"/api/users/{me}"),
            ("GET", f"/api/users/{me}/api-keys"),
            ("DELETE", f"/api/users/{me}/api-keys/{key['id']}"),
            ("PATCH", "/api/auth/me"),
        ):
            body = {"name": "x"} if method in ("POST", "PATCH") else None
            answer = client.request(method, path, headers=bearer(key), json=body)
            assert answer.status_code == 403, (method, path)

    def test_follows_the_role_and_state_of_its_owner_at_once(
        self, client: TestClient, services: Services, admin: Headers
    ) -> None:
        """By a database row alone, as another process would change it."""
        key = make(client, admin, scopes=["studies:read", "audit:read"])

        def change(**values: Any) -> None:
            with services.database.system() as session:
                session.execute(update(User).values(**values))

        def reach(action: Action) -> Reach:
            return verify_key(services.database, key["key"]).reach(action)

        assert (reach(Action.STUDIES_READ), reach(Action.AUDIT_READ)) == (Reach.TENANT, Reach.TENANT)
        change(role=Role.USER)
        assert (reach(Action.STUDIES_READ), reach(Action.AUDIT_READ)) == (Reach.OWN, Reach.NONE)
        assert client.get("/api/studies", headers=bearer(key)).status_code == 200
        change(is_active=False)
        assert_refused(client.get("/api/studies", headers=bearer(key)))


class TestEnd:
    @pytest.mark.parametrize("form", [URL + "/{}", URL + "?id={}"])
    def test_by_revocation_is_at_once_and_shows_in_the_list(
        self, client: TestClient, anna: Headers, form: str
    ) -> None:
        key, other = make(client, anna), make(client, anna)
        assert client.delete(form.format(key["id"]), headers=anna).status_code == 204
        assert_refused(client.get("/api/auth/me", headers=bearer(key)))
        assert client.get("/api/auth/me", headers=bearer(other)).status_code == 200
        revoked = {row["id"]: row["revoked_at"] for row in listed(client, anna)}
        assert revoked[key["id"]] is not None and revoked[other["id"]] is None
        assert client.delete(form.format(key["id"]), headers=anna).status_code == 204
        assert {row["id"]: row["revoked_at"] for row in listed(client, anna)} == revoked

    def test_by_expiry(self, client: TestClient, services: Services, anna: Headers) -> None:
        key = make(client, anna, expires_in_days=1)
        assert client.get("/api/auth/me", headers=bearer(key)).status_code == 200
        with services.database.system() as session:
            session.execute(update(ApiKey).values(expires_at=datetime.now(UTC)))
        assert_refused(client.get("/api/auth/me", headers=bearer(key)))

    def test_is_for_ones_own_keys(self, client: TestClient, anna: Headers, register_and_login: LogIn) -> None:
        key = make(client, anna)
        eve = register_and_login(client, "eve")
        assert listed(client, eve) == []
        assert client.delete(f"{URL}/{key['id']}", headers=eve).status_code == 404
        assert client.delete(f"{URL}/{uuid7()}", headers=anna).status_code == 404
        assert client.get("/api/auth/me", headers=bearer(key)).status_code == 200

    def test_keys_that_never_were_are_refused_alike(self, client: TestClient) -> None:
        for secret in ("hsk_", "hsk_x", "hsk_" + "A" * 43):
            assert_refused(client.get("/api/auth/me", headers={"X-API-Key": secret}))
            assert_refused(client.get("/api/auth/me", headers={"Authorization": f"Bearer {secret}"}))


class TestAdministrators:
    def test_see_and_revoke_the_keys_of_their_tenant(
        self, client: TestClient, anna: Headers, admin: Headers
    ) -> None:
        key = make(client, anna)
        url = f"/api/users/{own_account(client, anna)['id']}/api-keys"
        assert [row["id"] for row in listed(client, admin, url)] == [key["id"]]
        assert "key" not in listed(client, admin, url)[0]
        assert client.delete(f"{url}/{key['id']}", headers=admin).status_code == 204
        assert_refused(client.get("/api/auth/me", headers=bearer(key)))

    def test_find_keys_under_their_owner_only(
        self, client: TestClient, anna: Headers, admin: Headers
    ) -> None:
        key = make(client, anna)
        mine = own_account(client, admin)["id"]
        assert client.delete(f"/api/users/{mine}/api-keys/{key['id']}", headers=admin).status_code == 404
        assert client.get(f"/api/users/{uuid7()}/api-keys", headers=admin).status_code == 404

    def test_are_the_only_ones_who_do(self, client: TestClient, anna: Headers) -> None:
        key = make(client, anna)
        url = f"/api/users/{own_account(client, anna)['id']}/api-keys"
        assert client.get(url, headers=anna).status_code == 403
        assert client.delete(f"{url}/{key['id']}", headers=anna).status_code == 403


def test_making_and_revoking_is_in_the_audit_log_and_the_key_is_not(
    client: TestClient, services: Services, anna: Headers, admin: Headers
) -> None:
    key = make(client, anna, scopes=["studies:read"])
    her, me = own_account(client, anna)["id"], own_account(client, admin)["id"]
    client.get(f"/api/users/{her}/api-keys", headers=admin)
    client.delete(f"/api/users/{her}/api-keys/{key['id']}", headers=admin)
    with services.database.system() as session:
        tenant_id = session.get_one(User, UUID(her)).tenant_id
    with services.database.tenant(tenant_id) as session:
        of_keys = select(AuditEntry).where(AuditEntry.action.startswith("api_key.")).order_by(AuditEntry.seq)
        rows = [(row.action, str(row.actor_id), row.details) for row in session.scalars(of_keys)]
    assert rows == [
        ("api_key.create", her, {"scopes": ["studies:read"]}),
        ("api_key.list", me, {}),
        ("api_key.revoke", me, {"owner": her}),
    ]
