"""What log-in through an OpenID Connect provider promises, whatever the provider answers."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest
from httpx import Response
from pydantic import SecretStr
from sqlalchemy import select
from starlette.testclient import TestClient

from functions.auth.accounts.service import ensure_admin
from functions.auth.accounts.tenants import default_tenant
from functions.auth.oidc.accounts import account_of, known_account
from functions.auth.oidc.people import Person
from shared.config import Settings
from shared.db.models import ApiKey, AuditEntry, Identity, PasswordReset, Role, User
from shared.ids import uuid7
from shared.runtime.services import Services
from shared.security.api_keys import new_key as new_api_key
from shared.security.api_keys import secret_hash
from tests.contract.conftest import PASSWORD, ClientFor, LogIn
from tests.contract.oidc_issuer import ANNA, CLIENT_ID, CLIENT_SECRET, Issuer, new_key, running_issuer

LOGIN, CALLBACK = "/api/auth/oidc/login", "/api/auth/oidc/callback"
HERE = "https://testserver"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """A provider."""
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture
def settings(settings: Settings, issuer: Issuer) -> Settings:
    """Log-in through it."""
    return settings.model_copy(
        update={
            "oidc_issuer": issuer.url,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": SecretStr(CLIENT_SECRET),
            "oidc_role_claim": None,
            "oidc_roles": {"imaging": "radiologist", "it": "admin"},
        }
    )


@pytest.fixture
def browser(browser_for: ClientFor) -> TestClient:
    """Talks TLS, keeps cookies, follows no redirect by itself."""
    client = browser_for(base_url=HERE)
    client.follow_redirects = False
    return client


def begin(browser: TestClient, **query: str) -> str:
    """Where the browser is sent to."""
    response = browser.get(LOGIN, params=query)
    assert response.status_code == 302, response.text
    return response.headers["location"]


def log_in(browser: TestClient, issuer: Issuer, claims: dict[str, Any] = ANNA) -> Response:
    """What the browser gets in the end."""
    return browser.get(CALLBACK, params=issuer.grant(begin(browser), claims))


def log_of(services: Services, tenant_id: UUID) -> list[AuditEntry]:
    """The tenant's audit log, oldest first."""
    with services.database.tenant(tenant_id) as session:
        return list(session.scalars(select(AuditEntry).order_by(AuditEntry.seq)))


def user_of(services: Services, email: str) -> User | None:
    with services.database.system() as session:
        return session.scalar(select(User).where(User.email == email))


# The way there


def test_a_log_in_page_can_ask_whether_this_way_is_open(browser: TestClient, issuer: Issuer) -> None:
    assert browser.get("/api/auth/oidc").json() == {"enabled": True, "issuer": issuer.url, "login": LOGIN}


def test_without_a_provider_the_routes_name_the_settings(services: Services, browser: TestClient) -> None:
    services.settings.oidc_issuer = None
    assert browser.get("/api/auth/oidc").json() == {"enabled": False, "issuer": None, "login": None}
    for path in (LOGIN, CALLBACK):
        response = browser.get(path)
        assert response.status_code == 404
        assert "HOUNSFIELD_OIDC_ISSUER" in response.json()["detail"]


def test_the_browser_is_sent_to_the_provider_with_pkce_state_and_nonce(
    browser: TestClient, issuer: Issuer
) -> None:
    query = dict(parse_qsl(urlsplit(begin(browser)).query))
    assert query["response_type"] == "code"
    assert query["client_id"] == CLIENT_ID
    assert query["scope"] == "openid email profile"
    assert query["redirect_uri"] == f"{HERE}{CALLBACK}"
    assert query["code_challenge_method"] == "S256" and len(query["code_challenge"]) == 43
    assert len(query["state"]) >= 43 and len(query["nonce"]) >= 43
    again = dict(parse_qsl(urlsplit(begin(browser)).query))
    assert all(again[name] != query[name] for name in ("state", "nonce", "code_challenge"))


def test_the_attempt_travels_in_a_short_lived_cookie_that_no_script_reads(browser: TestClient) -> None:
    cookie = browser.get(LOGIN).headers["set-cookie"]
    assert cookie.startswith("__Host-hounsfield_oidc=")
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert attributes == {"httponly", "secure", "samesite=lax", "path=/", "max-age=600"}


def test_the_public_url_is_where_the_provider_sends_the_browser_back_to(
    services: Services, browser: TestClient
) -> None:
    services.settings.public_url = "https://imaging.hospital.example/"
    query = dict(parse_qsl(urlsplit(begin(browser)).query))
    assert query["redirect_uri"] == "https://imaging.hospital.example/api/auth/oidc/callback"


ELSEWHERE = (
    "https://evil.example/",
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/path\\..\\..",
    "javascript:alert(1)",
    "api/auth/me",
    "",
    "/" + "a" * 1024,
)


def test_nobody_is_sent_to_another_site_afterwards(browser: TestClient) -> None:
    statuses = {page: browser.get(LOGIN, params={"next": page}).status_code for page in ELSEWHERE}
    assert statuses == dict.fromkeys(ELSEWHERE, 422)


@pytest.mark.parametrize("page", ["/", "/viewer/1?slice=2&plane=axial#top", "/a//b"])
def test_the_browser_ends_where_it_wanted_to_go(browser: TestClient, issuer: Issuer, page: str) -> None:
    response = browser.get(CALLBACK, params=issuer.grant(begin(browser, next=page)))
    assert (response.status_code, response.headers["location"]) == (303, page)


# The way back


def test_a_new_person_gets_an_account_and_a_session_in_cookies(
    services: Services, browser: TestClient, issuer: Issuer
) -> None:
    response = log_in(browser, issuer)
    assert (response.status_code, response.headers["location"]) == (303, "/api/auth/me")
    cookies = {line.partition("=")[0]: line.lower() for line in response.headers.get_list("set-cookie")}
    for name in ("__Host-hounsfield_access", "__Host-hounsfield_refresh"):
        assert "httponly" in cookies[name] and "secure" in cookies[name] and "samesite" in cookies[name]
    assert "max-age=0" in cookies["__Host-hounsfield_oidc"]

    me = browser.get(response.headers["location"]).json()
    assert (me["email"], me["role"], me["full_name"]) == (ANNA["email"], "user", ANNA["name"])
    user = user_of(services, ANNA["email"])
    assert user is not None and user.password_hash is None and user.last_login_at is not None


def test_the_second_log_in_finds_the_same_account_whatever_the_address_is_then(
    services: Services, browser: TestClient, issuer: Issuer
) -> None:
    log_in(browser, issuer)
    first = browser.get("/api/auth/me").json()
    log_in(browser, issuer, {**ANNA, "email": "anna.married@hospital.example"})
    assert browser.get("/api/auth/me").json()["id"] == first["id"]


def test_an_answer_with_another_state_is_refused(browser: TestClient, issuer: Issuer) -> None:
    answer = issuer.grant(begin(browser))
    for state in ("x" * 43, "", "ü"):
        response = browser.get(CALLBACK, params={**answer, "state": state})
        assert response.status_code == 400 and LOGIN in response.json()["detail"]
    assert browser.get(CALLBACK, params={"code": answer["code"]}).status_code == 400
    assert "POST /token" not in issuer.requests


def test_another_browser_cannot_finish_a_log_in(
    browser: TestClient, browser_for: ClientFor, issuer: Issuer
) -> None:
    """Nor can a page log its visitor in as somebody else (login CSRF)."""
    answer = issuer.grant(begin(browser))
    other = browser_for(base_url=HERE)
    assert other.get(CALLBACK, params=answer).status_code == 400
    other.cookies.set("__Host-hounsfield_oidc", "bm8=.00")
    assert other.get(CALLBACK, params=answer).status_code == 400


def test_an_answer_is_good_for_one_use(browser: TestClient, issuer: Issuer) -> None:
    location = begin(browser)
    cookie = browser.cookies["__Host-hounsfield_oidc"]
    answer = issuer.grant(location)
    assert browser.get(CALLBACK, params=answer).status_code == 303
    assert browser.get(CALLBACK, params=answer).status_code == 400, "the browser has dropped the attempt"
    replayed = browser.get(CALLBACK, params=answer, headers={"Cookie": f"__Host-hounsfield_oidc={cookie}"})
    assert replayed.status_code == 400 and "one use" in replayed.json()["detail"], "the code is used"


DO_NOT_HOLD: tuple[dict[str, Any], ...] = (
    {"nonce": "another"},
    {"nonce": None},
    {"aud": "another client"},
    {"aud": [CLIENT_ID, "another client"]},
    {"aud": [CLIENT_ID, "another client"], "azp": "another client"},
    {"azp": "another client"},
    {"aud": None},
    {"iss": "https://elsewhere.example"},
    {"iss": None},
    {"exp": int(time.time()) - 3600},
    {"exp": None},
    {"exp": "tomorrow"},
    {"iat": int(time.time()) + 3600},
    {"nbf": int(time.time()) + 3600},
    {"sub": None},
    {"sub": ""},
    {"sub": 7},
    {"sub": "x" * 256},
    {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
)


def test_an_id_token_that_does_not_hold_lets_nobody_in(
    services: Services, browser: TestClient, issuer: Issuer
) -> None:
    for overrides in DO_NOT_HOLD:
        issuer.overrides = overrides
        response = log_in(browser, issuer)
        assert response.status_code == 403, overrides
        assert "set-cookie" not in response.headers
    assert user_of(services, ANNA["email"]) is None
    issuer.overrides = {"aud": [CLIENT_ID, "another client"], "azp": CLIENT_ID}
    assert log_in(browser, issuer).status_code == 303, "several audiences are fine if it is for us"


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_an_id_token_without_a_public_key_signature_lets_nobody_in(
    browser: TestClient, issuer: Issuer, algorithm: str
) -> None:
    issuer.algorithm = algorithm
    assert log_in(browser, issuer).status_code == 403


@pytest.mark.parametrize("named_alike", [False, True])
def test_an_id_token_signed_by_another_key_lets_nobody_in(
    browser: TestClient, issuer: Issuer, named_alike: bool
) -> None:
    forged = new_key()
    if named_alike:
        forged = type(forged).import_key(forged.as_dict(private=True), {"kid": issuer.key.kid or ""})
    issuer.key = forged
    assert log_in(browser, issuer).status_code == 403


def test_a_provider_may_change_its_keys(browser: TestClient, issuer: Issuer) -> None:
    assert log_in(browser, issuer).status_code == 303
    issuer.key = new_key()
    issuer.published = [issuer.key]
    assert log_in(browser, issuer).status_code == 303
    assert issuer.requests.count("GET /jwks") == 2, "fetched again once, and not for every log-in"
    assert log_in(browser, issuer).status_code == 303
    assert issuer.requests.count("GET /jwks") == 2
    assert issuer.requests.count("GET /.well-known/openid-configuration") == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("access_denied", 403),
        ("login_required", 403),
        ("temporarily_unavailable", 503),
        ("invalid_scope", 503),
    ],
)
def test_a_refusal_of_the_provider_is_told(browser: TestClient, error: str, status: int) -> None:
    state = dict(parse_qsl(urlsplit(begin(browser)).query))["state"]
    assert browser.get(CALLBACK, params={"state": state, "error": error}).status_code == status
    forged = browser.get(CALLBACK, params={"state": "another", "error": error})
    assert forged.status_code == 400, "anybody can make a browser ask this"


def test_a_provider_that_names_itself_must_be_ours(browser: TestClient, issuer: Issuer) -> None:
    issuer.document = {"authorization_response_iss_parameter_supported": True}
    for named, status in ((None, 400), ("https://elsewhere.example", 400), (issuer.url, 303)):
        answer = issuer.grant(begin(browser))
        response = browser.get(CALLBACK, params={**answer, **({"iss": named} if named else {})})
        assert response.status_code == status


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "http://127.0.0.1:1/"},
        {"token_endpoint": None},
        {"token_endpoint": "http://provider.example/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": 7},
    ],
    ids=str,
)
def test_a_discovery_document_must_be_the_issuers_and_its_addresses_safe(
    browser: TestClient, issuer: Issuer, document: dict[str, Any]
) -> None:
    issuer.document = document
    response = browser.get(LOGIN)
    assert response.status_code == 503
    assert "identity provider" in response.json()["detail"]


def test_a_provider_that_is_away_is_asked_once_and_callers_are_told_at_once(
    services: Services, browser: TestClient, issuer: Issuer
) -> None:
    issuer.document = {"issuer": "another"}
    assert [browser.get(LOGIN).status_code for _ in range(5)] == [503] * 5
    assert len(issuer.requests) == 1


def test_a_client_shows_who_it_is_as_the_provider_asks(
    services: Services, browser: TestClient, issuer: Issuer
) -> None:
    issuer.document = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    issuer.clients = (("post", CLIENT_ID, CLIENT_SECRET),)
    assert log_in(browser, issuer).status_code == 303


def test_a_client_without_a_secret_is_a_public_one(
    services: Services, browser: TestClient, issuer: Issuer
) -> None:
    services.settings.oidc_client_secret = None
    issuer.clients = (("post", CLIENT_ID, ""),)
    assert log_in(browser, issuer).status_code == 303


@pytest.mark.parametrize(
    ("name", "value"), [("oidc_issuer", "http://provider.example"), ("oidc_ca_file", Path("/nowhere.pem"))]
)
def test_a_setting_that_cannot_be_used_is_named(
    services: Services, browser: TestClient, name: str, value: object
) -> None:
    setattr(services.settings, name, value)
    response = browser.get(LOGIN)
    assert response.status_code == 503
    assert f"HOUNSFIELD_{name.upper()}" in response.json()["detail"]


@pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client"])
def test_a_provider_that_does_not_know_us_is_an_administrators_matter(
    browser: TestClient, issuer: Issuer, error: str
) -> None:
    issuer.token_error = error
    assert log_in(browser, issuer).status_code == 503


def test_no_code_token_or_address_is_logged(
    browser: TestClient, issuer: Issuer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    issuer.overrides = {"aud": "another"}
    answer = issuer.grant(begin(browser))
    cookie = browser.cookies["__Host-hounsfield_oidc"]
    browser.get(CALLBACK, params=answer)
    issuer.overrides = {}
    log_in(browser, issuer)
    messages = [record.getMessage() for record in caplog.records]
    not_the_browsers = [message for message in messages if HERE not in message]
    logged = " ".join([*not_the_browsers, *capsys.readouterr()])
    assert "an ID token was refused" in logged
    for secret in (answer["code"], answer["state"], cookie, "the-access-token", "eyJ", ANNA["email"]):
        assert secret not in logged


# Whose account


def test_a_verified_address_links_the_account_and_voids_what_let_anybody_in_before(
    services: Services,
    browser: TestClient,
    issuer: Issuer,
    client_for: ClientFor,
    register_and_login: LogIn,
) -> None:
    """Somebody registered Anna's address before she came."""
    client = client_for()
    squatter = register_and_login(client, "anna")
    before = user_of(services, ANNA["email"])
    assert before is not None
    key = _other_ways_in(services, before)
    assert client.get("/api/auth/me", headers=squatter).status_code == 200
    assert client.get("/api/auth/me", headers={"X-API-Key": key}).status_code == 200

    assert log_in(browser, issuer, {**ANNA, "email": "ANNA@hospital.example"}).status_code == 303
    assert browser.get("/api/auth/me").json()["id"] == str(before.id), "her session works"
    assert client.get("/api/auth/me", headers=squatter).status_code == 401
    assert client.get("/api/auth/me", headers={"X-API-Key": key}).status_code == 401
    password = client.post("/api/auth/login", json={"login": "anna", "password": PASSWORD})
    assert password.status_code == 401
    with services.database.system() as session:
        assert all(reset.used_at is not None for reset in session.scalars(select(PasswordReset)))
        subjects = session.scalars(select(Identity.subject)).all()
        assert subjects == [ANNA["sub"]], "another identity would have been a way in, too"


def _other_ways_in(services: Services, user: User) -> str:
    key = new_api_key()
    owner = {"tenant_id": user.tenant_id, "user_id": user.id}
    with services.database.system() as session:
        session.add(
            ApiKey(name="k", prefix=key[:8], key_hash=secret_hash(key), scopes=["account:read"], **owner)
        )
        session.add(Identity(issuer="https://elsewhere.example", subject="squatter", **owner))
        session.add(PasswordReset(token_hash=b"reset", expires_at=user.created_at, **owner))
    return key


def test_an_unverified_address_links_nothing(
    services: Services,
    browser: TestClient,
    issuer: Issuer,
    client_for: ClientFor,
    register_and_login: LogIn,
) -> None:
    client = client_for()
    anna = register_and_login(client, "anna")
    for verified in (False, None, "false", 1, "yes"):
        response = log_in(browser, issuer, {**ANNA, "email_verified": verified})
        assert response.status_code == 409, verified
        assert "email_verified" in response.json()["detail"]
    assert client.get("/api/auth/me", headers=anna).status_code == 200
    with services.database.system() as session:
        assert session.scalars(select(Identity)).all() == []


def test_an_address_that_is_not_verified_makes_no_account(browser: TestClient, issuer: Issuer) -> None:
    """It would take the address from its owner. A provider that says nothing, as many directories, is believed."""
    refused = log_in(browser, issuer, {**ANNA, "email_verified": False})
    assert refused.status_code == 403 and "verify it there" in refused.json()["detail"]
    assert log_in(browser, issuer, {**ANNA, "email_verified": None}).status_code == 303


def test_the_audit_log_tells_how_somebody_came_in(
    services: Services, browser: TestClient, issuer: Issuer, client_for: ClientFor, register_and_login: LogIn
) -> None:
    register_and_login(client_for(), "anna")
    log_in(browser, issuer)
    log_in(browser, issuer, {**ANNA, "sub": "bert", "email": "bert@hospital.example"})
    with services.database.tenant(services.once(default_tenant)) as session:
        entries = select(AuditEntry).where(AuditEntry.credential == "oidc").order_by(AuditEntry.seq)
        told = [
            (entry.action, entry.outcome, entry.actor_id == entry.subject_id)
            for entry in session.scalars(entries)
        ]
    linked, made = ("auth.link", "success", False), ("user.create", "success", False)
    came_in = ("auth.login", "success", True)
    assert told == [linked, came_in, made, came_in]


def test_the_audit_log_tells_who_did_not_come_in(
    services: Services, browser: TestClient, issuer: Issuer, client_for: ClientFor, register_and_login: LogIn
) -> None:
    register_and_login(client_for(), "anna")
    anna = user_of(services, ANNA["email"])
    assert anna is not None

    def failures() -> list[AuditEntry]:
        rows = log_of(services, services.once(default_tenant))
        return [row for row in rows if (row.action, row.outcome) == ("auth.login", "failure")]

    assert log_in(browser, issuer, {**ANNA, "email_verified": None}).status_code == 409
    with services.database.system() as session:
        session.execute(User.__table__.update().values(is_active=False))
    assert log_in(browser, issuer).status_code == 403
    issuer.overrides = {"aud": "another client"}
    assert log_in(browser, issuer).status_code == 403
    state = dict(parse_qsl(urlsplit(begin(browser)).query))["state"]
    assert browser.get(CALLBACK, params={"state": state, "error": "access_denied"}).status_code == 403
    assert [row.subject_id for row in failures()] == [anna.id, anna.id, None, None]
    assert {(row.actor_id, row.credential, row.address) for row in failures()} == {
        (None, "oidc", "testclient")
    }

    assert (
        browser.get(CALLBACK, params={"state": state, "error": "temporarily_unavailable"}).status_code == 503
    )
    browser.cookies.clear()
    assert browser.get(CALLBACK, params={"state": state, "code": "x"}).status_code == 400
    assert len(failures()) == 4, "a provider's trouble, and what no browser of ours began, is nobody's log-in"


def test_who_is_refused_again_and_again_fills_no_log(
    services: Services, browser: TestClient, issuer: Issuer
) -> None:
    begin(browser)
    most = services.settings.address_failures
    answers = [browser.get(CALLBACK, params={"state": "x", "code": "y"}).status_code for _ in range(most + 5)]
    assert answers == [400] * most + [429] * 5
    assert len(log_of(services, services.once(default_tenant))) == most


def test_a_closed_account_stays_closed(services: Services, browser: TestClient, issuer: Issuer) -> None:
    log_in(browser, issuer)
    with services.database.system() as session:
        session.execute(User.__table__.update().values(is_active=False))
    for subject in (ANNA["sub"], "another"):
        response = log_in(browser, issuer, {**ANNA, "sub": subject})
        assert response.status_code == 403 and "closed" in response.json()["detail"]
        assert "set-cookie" not in response.headers


def test_an_address_that_the_id_token_lacks_is_asked_for(
    services: Services, browser: TestClient, issuer: Issuer
) -> None:
    short = {"sub": ANNA["sub"], "email_verified": True}
    issuer.userinfo = {**ANNA, "email_verified": False}
    assert log_in(browser, issuer, short).status_code == 403, "what is verified is said beside the address"
    issuer.userinfo = ANNA
    assert log_in(browser, issuer, {"sub": ANNA["sub"]}).status_code == 303
    assert browser.get("/api/auth/me").json()["email"] == ANNA["email"]


def test_userinfo_of_somebody_else_is_refused(browser: TestClient, issuer: Issuer) -> None:
    issuer.userinfo = {**ANNA, "sub": "somebody else"}
    assert log_in(browser, issuer, {"sub": ANNA["sub"]}).status_code == 403
    issuer.userinfo = {}
    assert log_in(browser, issuer, {"sub": ANNA["sub"]}).status_code == 503, "refused by the provider itself"


def test_nobody_gets_an_account_without_an_address(browser: TestClient, issuer: Issuer) -> None:
    issuer.userinfo = {"sub": ANNA["sub"]}
    for address in (None, "no address", 7, "a@b\n.example"):
        response = log_in(browser, issuer, {**ANNA, "email": address})
        assert response.status_code == 403 and "e-mail" in response.json()["detail"], address


# Roles


def test_the_role_claim_promotes_and_demotes_at_every_log_in(
    services: Services, browser: TestClient, issuer: Issuer
) -> None:
    services.settings.oidc_role_claim = "groups"
    ensure_admin(services, "chief@hospital.example", PASSWORD)
    role = []
    for groups in (["imaging", "staff"], ["imaging", "it"], "imaging", ["staff"], []):
        assert log_in(browser, issuer, {**ANNA, "groups": groups}).status_code == 303
        role.append(browser.get("/api/auth/me").json()["role"])
    assert role == ["radiologist", "admin", "radiologist", "user", "user"]


def test_a_token_with_the_old_role_is_void_after_a_demotion(
    services: Services, browser: TestClient, issuer: Issuer
) -> None:
    services.settings.oidc_role_claim = "groups"
    ensure_admin(services, "chief@hospital.example", PASSWORD)
    log_in(browser, issuer, {**ANNA, "groups": ["it"]})
    old = {"Authorization": f"Bearer {browser.cookies['__Host-hounsfield_access']}"}
    assert browser.get("/api/auth/me", headers=old).status_code == 200
    log_in(browser, issuer, {**ANNA, "groups": ["staff"]})
    assert browser.get("/api/auth/me", headers=old).status_code == 401
    assert browser.get("/api/auth/me").json()["role"] == "user"


@pytest.mark.parametrize("tenant", ["default", "eye-clinic"])
def test_the_last_administrator_of_a_tenant_keeps_the_role_whatever_the_provider_says(
    services: Services, browser: TestClient, issuer: Issuer, tenant: str
) -> None:
    """Linked for the first time or again; one who is closed, or of another tenant, is no other administrator."""
    services.settings.oidc_role_claim = "groups"
    ensure_admin(services, ANNA["email"], PASSWORD, tenant)
    ensure_admin(services, "elsewhere@hospital.example", PASSWORD, "another-tenant")
    ensure_admin(services, "closed@hospital.example", PASSWORD, tenant)
    with services.database.system() as session:
        closed = User.__table__.c.email == "closed@hospital.example"
        session.execute(User.__table__.update().where(closed).values(is_active=False))
    for _ in range(2):
        assert log_in(browser, issuer, {**ANNA, "groups": ["staff"]}).status_code == 303
        assert browser.get("/api/auth/me").json()["role"] == "admin"
    anna = user_of(services, ANNA["email"])
    assert anna is not None
    rows = [row for row in log_of(services, anna.tenant_id) if row.action == "user.update"]
    assert [(row.outcome, row.subject_id) for row in rows] == [("failure", anna.id)] * 2
    assert rows[0].details == {"role": "user", "before": "admin"}


def test_of_two_administrators_who_lose_the_role_at_once_one_keeps_it(
    services: Services, issuer: Issuer
) -> None:
    names = [f"{name}@hospital.example" for name in ("anna", "bert", "carl", "dora")]
    for name in names:
        ensure_admin(services, name, PASSWORD)
    people = [Person(issuer.url, name, name, True, None, Role.USER) for name in names]
    with ThreadPoolExecutor(len(people)) as pool:
        users = list(
            pool.map(
                lambda person: account_of(services, person, known_account(services, person), None), people
            )
        )
    assert sorted(user.role for user in users) == ["admin", "user", "user", "user"]


def test_without_a_role_claim_the_role_is_ours_to_give(
    services: Services, browser: TestClient, issuer: Issuer
) -> None:
    log_in(browser, issuer)
    with services.database.system() as session:
        session.execute(User.__table__.update().values(role=Role.PATHOLOGIST))
    log_in(browser, issuer, {**ANNA, "groups": ["it"]})
    assert browser.get("/api/auth/me").json()["role"] == "pathologist"


def test_a_role_that_does_not_exist_is_named(services: Services, browser: TestClient, issuer: Issuer) -> None:
    services.settings.oidc_role_claim = "groups"
    services.settings.oidc_roles = {"it": "root"}
    response = log_in(browser, issuer, {**ANNA, "groups": ["it"]})
    assert response.status_code == 503 and "root" in response.json()["detail"]


def test_two_first_log_ins_at_once_make_one_account(services: Services, issuer: Issuer) -> None:
    person = Person(issuer.url, str(uuid7()), "new@hospital.example", True, None, None)
    with ThreadPoolExecutor(4) as pool:
        users = list(
            pool.map(lambda _: account_of(services, person, known_account(services, person), None), range(4))
        )
    assert len({user.id for user in users}) == 1
