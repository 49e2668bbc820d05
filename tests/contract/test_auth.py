"""What the auth function promises over HTTP."""

import base64
import hashlib
import hmac
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from httpx import Response
from sqlalchemy import func, select, update
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from functions.auth.accounts import service
from functions.auth.accounts.schemas import Registration
from functions.auth.sessions.forms import FORM
from shared.config import Settings
from shared.db.models import Role, Tenant, User
from shared.errors import Conflict, Forbidden, Invalid
from shared.ids import uuid7
from shared.runtime.services import Services
from shared.security.keys import key_store
from shared.security.principal import Principal
from shared.security.rings import public_key_id
from shared.security.tokens import TokenIssuer
from tests.builders import make_tenant
from tests.contract.conftest import PASSWORD, ClientFor, LogIn

ANNA = {
    "email": "Anna@Hospital.example",
    "username": "anna",
    "password": PASSWORD,
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


@pytest.fixture
def admin(client: TestClient, services: Services) -> dict[str, str]:
    """Headers of the first administrator."""
    service.ensure_admin(services, "admin@hospital.example", PASSWORD)
    return log_in(client, login="admin@hospital.example", password=PASSWORD)


def log_in(client: TestClient, **credentials: str) -> dict[str, str]:
    answer = client.post("/api/auth/login", json=credentials)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def register(client: TestClient, headers: dict[str, str] | None = None, **changes: Any) -> Response:
    account = {name: value for name, value in {**ANNA, **changes}.items() if value is not None}
    answer: Response = client.post("/api/auth/register", json=account, headers=headers)
    return answer


def assert_problem(answer: Response, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"https://hounsfield.dev/problems/{slug}"
    assert problem["status"] == status
    return problem


def assert_unauthenticated(answer: Response) -> dict[str, Any]:
    assert answer.headers["www-authenticate"] == "Bearer"
    return assert_problem(answer, 401, "unauthenticated")


class TestRegistration:
    def test_gives_the_account_without_its_password(self, client: TestClient) -> None:
        answer = register(client)
        assert answer.status_code == 201
        account = answer.json()
        assert {name: account[name] for name in ANNA if name != "password"} == {
            name: value for name, value in ANNA.items() if name != "password"
        }
        assert account["role"] == "user"
        assert account["is_active"] is True
        assert "password" not in answer.text and PASSWORD not in answer.text

    def test_accepts_the_older_systems_camel_case(self, client: TestClient) -> None:
        answer = register(client, full_name=None, fullName="A. Radiologist")
        assert answer.json()["full_name"] == "A. Radiologist"

    def test_keeps_a_bcrypt_hash_of_the_configured_cost(self, client: TestClient, services: Services) -> None:
        register(client)
        with services.database.system() as session:
            assert session.scalars(select(User.password_hash)).one().startswith("$2b$04$")

    def test_needs_only_email_and_password(self, client: TestClient) -> None:
        answer = client.post("/auth/register", json={"email": "anna@a.example", "password": PASSWORD})
        assert answer.status_code == 201
        assert answer.json()["username"] == "anna"

    def test_makes_another_username_when_the_one_from_the_email_is_taken(self, client: TestClient) -> None:
        names = [
            register(client, email=f"Anna@{host}.example", username=None).json()["username"]
            for host in ("a", "b", "c")
        ]
        assert names[0] == "Anna"
        assert all(name.startswith("Anna-") for name in names[1:])
        assert len(set(names)) == 3

    @pytest.mark.parametrize("local", ["a", "!", "_x", "é".encode().hex() * 12])
    def test_makes_a_username_from_any_email(self, client: TestClient, local: str) -> None:
        answer = register(client, email=f"{local}@hospital.example", username=None)
        assert answer.status_code == 201
        assert 2 <= len(answer.json()["username"]) <= 64

    @pytest.mark.parametrize("role", ["admin", "doctor"])
    def test_lets_nobody_choose_a_role_for_themselves(
        self, client: TestClient, anna: dict[str, str], role: str
    ) -> None:
        by_a_stranger = register(client, email="b@hospital.example", username="stranger", role=role)
        by_a_user = register(client, anna, email="c@hospital.example", username="colleague", role=role)
        assert by_a_stranger.json()["role"] == "user"
        assert by_a_user.json()["role"] == "user"

    def test_lets_an_administrator_choose_the_role(self, client: TestClient, admin: dict[str, str]) -> None:
        assert register(client, admin, role="radiologist").json()["role"] == "radiologist"

    def test_by_an_administrator_stays_in_the_administrators_tenant(
        self, client: TestClient, services: Services
    ) -> None:
        tenant = make_tenant(services.database)
        chief = Registration.model_validate({**ANNA, "username": "chief", "email": "chief@a.example"})
        service.create_user(services, chief, service.COMMAND_LINE, role=Role.ADMIN, tenant_id=tenant)
        created = register(client, log_in(client, login="chief", password=PASSWORD)).json()
        with services.database.tenant(tenant) as session:
            assert session.get(User, UUID(created["id"])) is not None

    def test_is_refused_where_it_is_closed(self, client: TestClient, services: Services) -> None:
        services.settings.allow_registration = False
        problem = assert_problem(register(client), 403, "forbidden")
        assert "administrator" in problem["detail"]

    def test_is_open_to_administrators_where_it_is_closed(
        self, client: TestClient, services: Services, admin: dict[str, str]
    ) -> None:
        services.settings.allow_registration = False
        assert register(client, admin).status_code == 201

    def test_is_closed_to_somebody_who_was_an_administrator_when_the_token_was_issued(
        self, client: TestClient, services: Services, admin: dict[str, str]
    ) -> None:
        with services.database.system() as session:
            session.execute(update(User).values(role="doctor"))
        assert_problem(register(client, admin, role="admin"), 403, "forbidden")

    def test_with_a_bad_token_is_refused(self, client: TestClient) -> None:
        assert_unauthenticated(register(client, {"Authorization": "Bearer nonsense"}))

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"username": "other", "email": "ANNA@hospital.EXAMPLE"}, "email"),
            ({"email": "other@hospital.example", "username": "ANNA"}, "username"),
        ],
    )
    def test_names_the_field_that_is_taken_in_any_case(
        self, client: TestClient, changes: dict[str, Any], field: str
    ) -> None:
        register(client)
        problem = assert_problem(register(client, **changes), 409, "conflict")
        assert [error["field"] for error in problem["errors"]] == [field]
        assert field in problem["detail"]

    def test_of_one_email_twice_at_once_succeeds_once(self, client: TestClient) -> None:
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda n: register(client, username=f"anna{n}").status_code, range(6)))
        assert sorted(answers) == [201] + [409] * 5

    def test_of_the_first_people_at_once_makes_one_default_tenant(
        self, client: TestClient, services: Services
    ) -> None:
        with ThreadPoolExecutor(6) as pool:
            answers = list(
                pool.map(lambda n: register(client, email=f"a{n}@b.example", username=f"anna{n}"), range(6))
            )
        assert {answer.status_code for answer in answers} == {201}
        with services.database.system() as session:
            assert session.scalars(select(Tenant.slug)).all() == ["default"]
            assert session.scalar(select(func.count(User.tenant_id.distinct()))) == 1

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"email": "nobody"}, "email"),
            ({"email": "a b@hospital.example"}, "email"),
            ({"email": "a@hospital.example\nb"}, "email"),
            ({"email": "a@-.example"}, "email"),
            ({"email": f"{'a' * 65}@hospital.example"}, "email"),
            ({"email": None}, "email"),
            ({"username": "anna@other.example"}, "username"),
            ({"username": "§"}, "username"),
            ({"username": "a b"}, "username"),
            ({"full_name": "nul\0"}, "full_name"),
            ({"full_name": "x" * 255}, "full_name"),
            ({"role": "surgeon"}, "role"),
            ({"password": None}, "password"),
            ({"password": "short 7"}, "password"),
            ({"password": "Password123"}, "password"),
            ({"password": "anna@hospital.EXAMPLE"}, "password"),
            ({"username": "anna-the-first", "password": "Anna-the-first"}, "password"),
            ({"password": "x" * 73}, "password"),
            ({"password": "é" * 37}, "password"),
        ],
    )
    def test_names_the_field_that_is_wrong_without_repeating_it(
        self, client: TestClient, changes: dict[str, Any], field: str
    ) -> None:
        answer = register(client, **changes)
        problem = assert_problem(answer, 422, "invalid")
        assert [error["field"] for error in problem["errors"]] == [field]
        assert PASSWORD not in answer.text
        assert changes[field] is None or changes[field] not in problem["detail"]

    @pytest.mark.parametrize("email", ["a@hospital.local", "root@localhost", "a.b+c@x-ray.example"])
    def test_takes_the_addresses_of_hospital_networks(self, client: TestClient, email: str) -> None:
        assert register(client, email=email).json()["email"] == email

    @pytest.mark.parametrize("password", ["x1" * 36, "pässwörd", "eight ch", "nul\0 is a byte"])
    def test_takes_long_and_foreign_passwords(self, client: TestClient, password: str) -> None:
        assert register(client, password=password).status_code == 201
        assert log_in(client, login="anna", password=password)


class TestLogin:
    @pytest.mark.parametrize(
        ("field", "name"),
        [
            ("email", "anna@hospital.example"),
            ("email", "ANNA@HOSPITAL.EXAMPLE"),
            ("username", "anna"),
            ("username", "Anna"),
            ("login", "anna@hospital.example"),
            ("login", " anna "),
            ("username", "anna@hospital.example"),
        ],
    )
    def test_takes_email_or_username_in_any_case(self, client: TestClient, field: str, name: str) -> None:
        account = register(client).json()
        answer = client.post("/auth/login", json={field: name, "password": PASSWORD}).json()
        assert answer["access_token"] == answer["access"]
        assert answer["token_type"] == "bearer"
        assert answer["expires_in"] == 900
        assert answer["user"] == account

    def test_takes_the_form_of_oauth2_clients(self, client: TestClient) -> None:
        register(client)
        form = {"grant_type": "password", "username": "anna", "password": PASSWORD}
        assert client.post("/auth/login", data=form).status_code == 200

    def test_takes_json_that_a_browser_calls_plain_text(self, client: TestClient) -> None:
        register(client)
        body = json.dumps({"username": "anna", "password": PASSWORD})
        headers = {"Content-Type": "text/plain;charset=UTF-8"}
        assert client.post("/auth/login", content=body, headers=headers).status_code == 200

    def test_says_how_to_label_json_that_is_called_a_form(self, client: TestClient) -> None:
        body = json.dumps({"username": "anna", "password": PASSWORD})
        answer = client.post("/auth/login", content=body, headers={"Content-Type": FORM})
        assert answer.status_code == 422
        assert "Content-Type: application/json" in answer.json()["detail"]

    def test_takes_a_password_composed_in_another_way(self, client: TestClient) -> None:
        register(client, password="g\u00e4nsebl\u00fcmchen")
        assert log_in(client, login="anna", password="ga\u0308nseblu\u0308mchen")

    def test_answer_is_not_stored_by_caches(self, client: TestClient) -> None:
        register(client)
        answer = client.post("/auth/login", json={"login": "anna", "password": PASSWORD})
        assert answer.headers["cache-control"] == "no-store"

    def test_fails_with_the_same_words_whatever_the_reason(
        self, client: TestClient, services: Services
    ) -> None:
        register(client)
        register(client, email="closed@hospital.example", username="closed")
        with services.database.system() as session:
            session.execute(update(User).where(User.username == "closed").values(is_active=False))
        attempts = [
            ("anna", "wrong password"),
            ("anna", PASSWORD + "x" * 72),
            ("nobody", PASSWORD),
            ("nobody@hospital.example", PASSWORD),
            ("closed", PASSWORD),
            ("closed", "wrong password"),
        ]
        answers = [client.post("/auth/login", json={"login": n, "password": p}) for n, p in attempts]
        assert len({answer.text for answer in answers}) == 1
        for answer in answers:
            assert_unauthenticated(answer)

    def test_does_not_take_the_first_72_bytes_for_a_longer_password(self, client: TestClient) -> None:
        register(client, password="x1" * 36)
        answer = client.post("/auth/login", json={"login": "anna", "password": "x1" * 36 + "y"})
        assert_unauthenticated(answer)

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"password": PASSWORD}, "body"),
            ({"login": "", "password": PASSWORD}, "body"),
            ({"login": "anna"}, "password"),
            ({"login": "nul\0", "password": PASSWORD}, "login"),
            ({"login": ["anna"], "password": PASSWORD}, "login"),
            (["anna", PASSWORD], "body"),
        ],
    )
    def test_names_what_is_missing(self, client: TestClient, body: Any, field: str) -> None:
        problem = assert_problem(client.post("/auth/login", json=body), 422, "invalid")
        assert [error["field"] for error in problem["errors"]] == [field]

    @pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 9000, b"login=anna"])
    def test_refuses_a_body_that_is_neither_json_nor_a_form(self, client: TestClient, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        assert_problem(client.post("/auth/login", content=body, headers=headers), 400, "bad-request")

    def test_refuses_a_form_of_thousands_of_fields(self, client: TestClient) -> None:
        form = {f"field{n}": "x" for n in range(1000)}
        assert_problem(client.post("/auth/login", data=form), 400, "bad-request")

    def test_refuses_a_body_larger_than_credentials_are(self, client: TestClient) -> None:
        body = {"login": "anna", "password": "x" * 20_000}
        assert_problem(client.post("/auth/login", json=body), 413, "too-large")


class TestOwnAccount:
    @pytest.mark.parametrize("path", ["/auth/me", "/auth/me/", "/api/auth/me", "/api/auth/me/"])
    def test_is_found_under_every_form_of_the_path(
        self, client: TestClient, anna: dict[str, str], path: str
    ) -> None:
        answer = client.get(path, headers=anna)
        assert answer.status_code == 200
        assert answer.json()["email"] == "anna@hospital.example"

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    def test_changes_in_the_fields_that_are_sent(self, client: TestClient, method: str) -> None:
        before = register(client).json()
        headers = log_in(client, login="anna", password=PASSWORD)
        changes = {"fullName": "A. Neuroradiologist", "phone": None}
        answer = client.request(method, "/api/auth/me", json=changes, headers=headers)
        assert answer.status_code == 200
        after = answer.json()
        assert after == {
            **before,
            "full_name": "A. Neuroradiologist",
            "fullName": "A. Neuroradiologist",
            "phone": None,
            "updated_at": after["updated_at"],
        }
        assert after["updated_at"] > before["updated_at"]
        assert client.get("/auth/me", headers=headers).json() == after

    def test_does_not_change_in_anything_but_the_profile(
        self, client: TestClient, anna: dict[str, str]
    ) -> None:
        before = client.get("/auth/me", headers=anna).json()
        sent = {
            "role": "admin",
            "is_active": False,
            "email": "x@y.example",
            "username": "x",
            "id": str(uuid7()),
        }
        assert client.patch("/auth/me", json={**sent, "tenant_id": sent["id"]}, headers=anna).json() == before

    def test_refuses_wrong_content(self, client: TestClient, anna: dict[str, str]) -> None:
        answer = client.patch("/auth/me", json={"title": "x" * 255, "phone": 5}, headers=anna)
        problem = assert_problem(answer, 422, "invalid")
        assert {error["field"] for error in problem["errors"]} == {"title", "phone"}

    @pytest.mark.parametrize("method", ["GET", "PUT", "PATCH"])
    def test_needs_a_token(self, client: TestClient, method: str) -> None:
        problem = assert_unauthenticated(client.request(method, "/api/auth/me"))
        assert "/api/auth/login" in problem["detail"]

    @pytest.mark.parametrize("method", ["GET", "PATCH"])
    def test_is_closed_at_once_to_the_token_of_an_inactive_account(
        self, client: TestClient, services: Services, anna: dict[str, str], method: str
    ) -> None:
        with services.database.system() as session:
            session.execute(update(User).values(is_active=False))
        body = {"title": "Dr"} if method == "PATCH" else None
        assert_unauthenticated(client.request(method, "/auth/me", json=body, headers=anna))


class TestTokens:
    """Every refusal is the same 401, on a route that costs no database query to refuse."""

    @pytest.fixture
    def principal(self, client: TestClient, services: Services, anna: dict[str, str]) -> Principal:
        with services.database.system() as session:
            user = session.scalars(select(User)).one()
            return Principal(user.id, user.tenant_id, Role(user.role))

    @pytest.fixture
    def key(self, services: Services) -> Ed25519PrivateKey:
        return services.once(key_store).private_key

    def refuse(self, client: TestClient, token: str) -> dict[str, Any]:
        return assert_unauthenticated(client.get("/auth/me", headers={"Authorization": f"Bearer {token}"}))

    def claims(self, principal: Principal, **changes: Any) -> dict[str, Any]:
        now = datetime.now(UTC)
        claims = {
            "iss": "hounsfield",
            "aud": "hounsfield-api",
            "sub": str(principal.user_id),
            "tenant": str(principal.tenant_id),
            "sid": str(uuid7()),
            "role": "user",
            "iat": now,
            "exp": now + timedelta(minutes=5),
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def sign(self, key: Ed25519PrivateKey, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": public_key_id(key.public_key())})

    def test_with_all_claims_right_is_accepted(
        self, client: TestClient, principal: Principal, key: Ed25519PrivateKey
    ) -> None:
        token = self.sign(key, self.claims(principal))
        assert client.get("/auth/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200

    @pytest.mark.parametrize(
        "changes",
        [
            {"iss": "another"},
            {"aud": "another"},
            {"exp": None},
            {"sub": None},
            {"sub": "anna"},
            {"tenant": None},
            {"role": "owner"},
            {"role": None},
        ],
        ids=str,
    )
    def test_with_one_claim_wrong_is_refused(
        self, client: TestClient, principal: Principal, key: Ed25519PrivateKey, changes: dict[str, Any]
    ) -> None:
        self.refuse(client, self.sign(key, self.claims(principal, **changes)))

    def test_of_another_key_is_refused(self, client: TestClient, principal: Principal) -> None:
        other = Ed25519PrivateKey.generate()
        self.refuse(client, self.sign(other, self.claims(principal)))

    def test_of_another_key_under_our_key_id_is_refused(
        self, client: TestClient, principal: Principal, services: Services
    ) -> None:
        other = replace(services.once(key_store).signing.current, value=Ed25519PrivateKey.generate())
        self.refuse(client, TokenIssuer(lambda: other, 60).issue(principal))

    def test_that_has_expired_is_refused_and_says_so(
        self, client: TestClient, principal: Principal, services: Services
    ) -> None:
        an_hour_ago = datetime.now(UTC) - timedelta(minutes=60, seconds=1)
        ring = services.once(key_store).signing
        issuer = TokenIssuer(lambda: ring.current, 60, clock=lambda: an_hour_ago)
        assert "expired" in self.refuse(client, issuer.issue(principal))["detail"]

    def test_without_a_signature_is_refused(
        self, client: TestClient, principal: Principal, key: Ed25519PrivateKey
    ) -> None:
        headers = {"kid": public_key_id(key.public_key())}
        self.refuse(client, jwt.encode(self.claims(principal), "", algorithm="none", headers=headers))

    def test_signed_by_hmac_with_the_public_key_is_refused(
        self, client: TestClient, principal: Principal, key: Ed25519PrivateKey
    ) -> None:
        public = key.public_key()
        claims = self.claims(principal)
        claims |= {name: int(claims[name].timestamp()) for name in ("iat", "exp")}
        header = {"alg": "HS256", "typ": "JWT", "kid": public_key_id(public)}
        for secret in (
            public.public_bytes_raw(),
            public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        ):
            signed = f"{segment(header)}.{segment(claims)}"
            mac = hmac.digest(secret, signed.encode(), hashlib.sha256)
            self.refuse(client, f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}")

    def test_with_changed_claims_is_refused(self, client: TestClient, anna: dict[str, str]) -> None:
        header, _, signature = anna["Authorization"].removeprefix("Bearer ").split(".")
        self.refuse(client, f"{header}.{segment({'role': 'admin'})}.{signature}")

    @pytest.mark.parametrize("garbage", ["x", "a.b.c", "..", "é", "x" * 10_000])
    def test_that_is_no_token_is_refused(self, client: TestClient, garbage: str) -> None:
        headers = {"Authorization": f"Bearer {garbage}".encode()}
        assert_unauthenticated(client.get("/auth/me", headers=headers))

    def test_of_another_scheme_is_no_token(self, client: TestClient) -> None:
        assert_unauthenticated(client.get("/auth/me", auth=("anna", PASSWORD)))

    def test_can_be_checked_with_the_published_keys_alone(
        self, client: TestClient, anna: dict[str, str], principal: Principal
    ) -> None:
        answer = client.get("/api/auth/jwks.json")
        assert answer.headers["cache-control"] == "public, max-age=300"
        (published,) = answer.json()["keys"]
        assert set(published) == {"kty", "crv", "x", "kid", "alg", "use"}  # no "d", the private half
        token = anna["Authorization"].removeprefix("Bearer ")
        assert jwt.get_unverified_header(token)["kid"] == published["kid"]
        claims = jwt.decode(token, jwt.PyJWK(published), ["EdDSA"], audience="hounsfield-api")
        assert claims["sub"] == str(principal.user_id)


def segment(content: dict[str, Any]) -> str:
    """A part of a JWT."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


EMAIL = "Admin@Hospital.example"


class TestFirstAdministrator:
    """Of the environment, at every start."""

    def test_can_log_in_and_is_made_once(self, client: TestClient, services: Services) -> None:
        service.make_first_admin(services, EMAIL, PASSWORD)
        service.make_first_admin(services, EMAIL.lower(), "another good password")
        headers = log_in(client, login=EMAIL, password=PASSWORD)
        assert client.get("/auth/me", headers=headers).json()["role"] == "admin"

    def test_is_one_when_replicas_start_at_once(self, services: Services) -> None:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: service.make_first_admin(services, EMAIL, PASSWORD), range(6)))
        with services.database.system() as session:
            assert session.scalars(select(User.role)).all() == [Role.ADMIN]

    def test_is_not_needed_where_there_is_another(self, client: TestClient, services: Services) -> None:
        service.ensure_admin(services, "chief@hospital.example", PASSWORD)
        service.make_first_admin(services, EMAIL, PASSWORD)
        refused = client.post("/auth/login", json={"login": EMAIL, "password": PASSWORD})
        assert_unauthenticated(refused)

    @pytest.mark.parametrize("change", [{"is_active": False}, {"role": "user"}, None], ids=str)
    def test_does_not_come_back_when_another_administrator_sent_them_away(
        self, client: TestClient, services: Services, admin: dict[str, str], change: dict[str, Any] | None
    ) -> None:
        service.ensure_admin(services, "other@hospital.example", PASSWORD)
        mine = log_in(client, login="other@hospital.example", password=PASSWORD)
        path = f"/users/{client.get('/auth/me', headers=mine).json()['id']}"
        done = (
            client.patch(path, json=change, headers=admin) if change else client.delete(path, headers=admin)
        )
        assert done.status_code in (200, 204)
        service.make_first_admin(services, "other@hospital.example", PASSWORD)
        admins = client.get("/users", params={"role": "admin", "is_active": True}, headers=admin).json()
        assert [account["email"] for account in admins["items"]] == ["admin@hospital.example"]

    def test_who_has_an_account_is_not_promoted_even_where_there_is_no_other(
        self, client: TestClient, services: Services
    ) -> None:
        register(client, email=EMAIL)
        with capture_logs() as logs:
            service.make_first_admin(services, EMAIL, "another good password")
        assert [line["log_level"] for line in logs if "create-admin" in line["event"]] == ["warning"]
        headers = log_in(client, login=EMAIL, password=PASSWORD)
        assert client.get("/auth/me", headers=headers).json()["role"] == "user"

    def test_has_a_good_password(self, services: Services) -> None:
        with pytest.raises(Invalid, match="common"):
            service.make_first_admin(services, EMAIL, "admin123")


class TestAdministratorOfTheCommandLine:
    def test_keeps_the_password_that_they_have(self, client: TestClient, services: Services) -> None:
        assert service.ensure_admin(services, EMAIL, PASSWORD)
        assert not service.ensure_admin(services, EMAIL.lower(), "another good password")
        headers = log_in(client, login=EMAIL, password=PASSWORD)
        assert client.get("/auth/me", headers=headers).json()["role"] == "admin"

    def test_is_the_account_that_has_the_address_but_not_with_the_password_of_whoever_registered_it(
        self, client: TestClient, services: Services
    ) -> None:
        account = register(client, email=EMAIL).json()
        with services.database.system() as session:
            session.execute(update(User).values(is_active=False))
        assert service.ensure_admin(services, EMAIL, "another good password")
        refused = client.post("/auth/login", json={"login": EMAIL, "password": PASSWORD})
        assert_unauthenticated(refused)
        headers = log_in(client, login=EMAIL, password="another good password")
        me = client.get("/auth/me", headers=headers).json()
        assert (me["id"], me["role"], me["is_active"]) == (account["id"], "admin", True)

    def test_who_is_refused_leaves_no_tenant_behind(self, client: TestClient, services: Services) -> None:
        register(client, email="anna@hospital.example")
        with pytest.raises(Invalid, match="common"):
            service.ensure_admin(services, EMAIL, "admin123", "typo")
        with pytest.raises(Conflict, match="another tenant"):
            service.ensure_admin(services, "anna@hospital.example", PASSWORD, "typo")
        with services.database.system() as session:
            assert session.scalars(select(Tenant.slug)).all() == ["default"]


def test_a_user_who_is_no_administrator_may_not_register_others_where_registration_is_closed(
    client: TestClient, services: Services, anna: dict[str, str]
) -> None:
    services.settings.allow_registration = False
    assert_problem(register(client, anna, email="b@c.example", username="other"), 403, Forbidden.slug)


def test_log_in_documents_both_forms_of_its_body(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    login = paths["/auth/login"]["post"]["requestBody"]["content"]
    assert set(login) == {"application/json", "application/x-www-form-urlencoded"}


def test_passwords_cost_twelve_by_default() -> None:
    assert Settings().bcrypt_cost == 12


def test_importing_the_function_does_not_import_image_or_model_libraries() -> None:
    code = "import sys, functions.auth; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"torch", "keras", "numpy", "nibabel", "SimpleITK"} & set(loaded.stdout.split())
    assert "functions.auth.sessions.routes" in loaded.stdout.split()


def test_a_password_that_is_no_text_is_refused_and_logs_nobody_in(client: TestClient) -> None:
    password = "\ud800 a long pass phrase"
    account = {"email": "anna@hospital.example", "password": password}
    json_body = {"content-type": "application/json"}
    refused = client.post("/api/auth/register", content=json.dumps(account), headers=json_body)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "password")
    assert client.post("/api/auth/register", json={**account, "password": PASSWORD}).status_code == 201
    for name in ("anna", "nobody"):
        body = json.dumps({"login": name, "password": password})
        assert client.post("/api/auth/login", content=body, headers=json_body).status_code == 401


@pytest.mark.parametrize("field", ["full_name", "email", "username", "phone"])
@pytest.mark.parametrize("text", ["a\ud800b@c", "a\0b@c"])
def test_text_that_cannot_be_stored_is_refused(client: TestClient, field: str, text: str) -> None:
    account = {"email": "anna@hospital.example", "password": PASSWORD, field: text}
    answer = client.post(
        "/api/auth/register", content=json.dumps(account), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422


@pytest.mark.parametrize("path", ["register", "login"])
def test_json_nested_too_deep_is_refused(client: TestClient, path: str) -> None:
    deep = b'{"a":' * 2500
    answer = client.post(f"/api/auth/{path}", content=deep, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
