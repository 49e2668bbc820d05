"""Sessions: refreshing, logging out, and browsers that carry them in cookies."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx import Response
from sqlalchemy import select, update
from starlette.testclient import TestClient

from functions.auth.accounts.tenants import default_tenant
from functions.auth.passwords.repository import highest_cost
from functions.auth.passwords.rules import PasswordHasher
from functions.auth.sessions.service import authenticate, clean_sessions, end_all_sessions, start_session
from shared.db.models import AuditEntry, RefreshToken, User
from shared.errors import Unauthenticated
from shared.runtime.services import Services
from shared.security.audit import Actor
from shared.security.keys import token_verifier
from shared.security.revocations import Revocations, revocations
from tests.contract.conftest import PASSWORD, ClientFor, LogIn

ORIGIN = {"Origin": "http://testserver"}


@pytest.fixture
def client(client_for: ClientFor, register_and_login: LogIn) -> TestClient:
    """A program, and an account called anna."""
    client = client_for()
    register_and_login(client, "anna")
    return client


@pytest.fixture
def browser(client: TestClient, browser_for: ClientFor) -> TestClient:
    """A browser that anna is logged in with."""
    browser = browser_for()
    answer = browser.post("/api/auth/login", json={"login": "anna", "password": PASSWORD}, headers=ORIGIN)
    assert answer.status_code == 200
    return browser


def log_in(client: TestClient) -> dict[str, Any]:
    answer = client.post("/api/auth/login", json={"login": "anna", "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()
    return tokens


def refresh(client: TestClient, token: str) -> Response:
    answer: Response = client.post("/api/auth/refresh", json={"refresh_token": token})
    return answer


def who(client: TestClient, token: str) -> int:
    status: int = client.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"}).status_code
    return status


def csrf(browser: TestClient) -> dict[str, str]:
    return {"X-CSRF-Token": browser.cookies["hounsfield_csrf"]}


class TestRefresh:
    def test_gives_a_new_pair_that_works(self, client: TestClient) -> None:
        first = log_in(client)
        second = refresh(client, first["refresh"]).json()
        assert second["refresh_token"] not in (first["refresh_token"], None)
        assert who(client, second["access_token"]) == 200
        assert refresh(client, second["refresh_token"]).status_code == 200

    @pytest.mark.parametrize("name", ["refresh_token", "refresh", "refreshToken"])
    def test_takes_the_token_by_the_older_systems_names_too(self, client: TestClient, name: str) -> None:
        answer = client.post("/api/auth/refresh", json={name: log_in(client)["refresh"]})
        assert answer.status_code == 200

    def test_a_token_that_is_used_again_ends_the_whole_session(self, client: TestClient) -> None:
        first = log_in(client)
        second = refresh(client, first["refresh_token"]).json()
        assert refresh(client, first["refresh_token"]).status_code == 401
        assert refresh(client, second["refresh_token"]).status_code == 401
        assert who(client, first["access_token"]) == who(client, second["access_token"]) == 401

    def test_the_end_of_one_session_leaves_the_others(self, client: TestClient) -> None:
        stolen, other = log_in(client), log_in(client)
        refresh(client, stolen["refresh_token"])
        refresh(client, stolen["refresh_token"])
        assert who(client, other["access_token"]) == 200
        assert refresh(client, other["refresh_token"]).status_code == 200

    def test_of_two_at_once_one_succeeds_and_the_session_ends(self, client: TestClient) -> None:
        token = log_in(client)["refresh_token"]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: refresh(client, token), range(4)))
        assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]
        winner = next(answer.json() for answer in answers if answer.status_code == 200)
        assert refresh(client, winner["refresh_token"]).status_code == 401

    @pytest.mark.parametrize("token", ["", "hsr_nothing", "nul\0", "\udcff"])
    def test_an_unknown_token_is_refused(self, client: TestClient, token: str) -> None:
        body = '{"refresh_token": "' + token.replace("\0", "\\u0000").replace("\udcff", "\\udcff") + '"}'
        answer = client.post("/api/auth/refresh", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (401, 422)

    @pytest.mark.parametrize("body", [None, {}])
    def test_without_a_token_says_what_to_send(self, client: TestClient, body: Any) -> None:
        answer = client.post("/api/auth/refresh", json=body)
        assert answer.status_code == 401
        assert "refresh_token" in answer.json()["detail"]

    def test_an_expired_token_is_refused(self, client: TestClient, services: Services) -> None:
        token = log_in(client)["refresh_token"]
        with services.database.system() as session:
            session.execute(update(RefreshToken).values(expires_at=datetime.now(UTC)))
        assert refresh(client, token).status_code == 401

    def test_a_session_ends_after_some_days_however_often_it_is_refreshed(
        self, client: TestClient, services: Services
    ) -> None:
        token = log_in(client)["refresh_token"]
        nearly = datetime.now(UTC) - timedelta(days=services.settings.session_days) + timedelta(minutes=1)
        with services.database.system() as session:
            session.execute(update(RefreshToken).values(started_at=nearly))
        answer = refresh(client, token).json()
        assert answer["refresh_expires_in"] <= 60

    def test_of_an_account_that_was_closed_is_refused(self, client: TestClient, services: Services) -> None:
        token = log_in(client)["refresh_token"]
        with services.database.system() as session:
            session.execute(update(User).values(is_active=False))
        assert refresh(client, token).status_code == 401

    def test_carries_the_role_of_today(self, client: TestClient, services: Services) -> None:
        token = log_in(client)["refresh_token"]
        with services.database.system() as session:
            session.execute(update(User).values(role="radiologist"))
        assert refresh(client, token).json()["user"]["role"] == "radiologist"

    def test_tokens_are_stored_as_hashes_only(self, client: TestClient, services: Services) -> None:
        token = log_in(client)["refresh_token"]
        with services.database.system() as session:
            for row in session.scalars(select(RefreshToken)):
                assert token.encode() not in row.token_hash and len(row.token_hash) == 32


def test_a_log_in_that_was_under_way_when_the_password_changed_is_refused(
    client: TestClient, services: Services
) -> None:
    user = authenticate(services, "anna", PASSWORD, None)
    with services.database.system() as session:
        session.execute(update(User).values(password_hash="another"))
    with pytest.raises(Unauthenticated):
        start_session(services, user, Actor(user.id, "password"))


def test_a_refresh_that_comes_while_all_sessions_are_being_ended_does_not_slip_through(
    client: TestClient, services: Services
) -> None:
    tokens = log_in(client)
    with ThreadPoolExecutor(1) as pool:
        with services.database.system() as session:
            user_id = session.scalars(select(User.id)).one()
            end_all_sessions(session, user_id)
            waiting = pool.submit(refresh, client, tokens["refresh_token"])
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
        assert waiting.result().status_code == 401


class TestLogout:
    def test_ends_the_session_of_the_access_token(self, client: TestClient) -> None:
        tokens = log_in(client)
        answer = client.post(
            "/api/auth/logout", headers={"Authorization": f"Bearer {tokens['access_token']}"}
        )
        assert answer.status_code == 204
        assert who(client, tokens["access_token"]) == 401
        assert refresh(client, tokens["refresh_token"]).status_code == 401

    def test_ends_the_session_of_the_refresh_token_and_may_be_repeated(self, client: TestClient) -> None:
        tokens = log_in(client)
        for _ in range(2):
            answer = client.post("/api/auth/logout", json={"refresh": tokens["refresh"]})
            assert answer.status_code == 204
        assert who(client, tokens["access_token"]) == 401

    def test_leaves_other_sessions_unless_everywhere_is_asked_for(self, client: TestClient) -> None:
        one, two, three = log_in(client), log_in(client), log_in(client)
        client.post("/api/auth/logout", json={"refresh_token": one["refresh_token"]})
        assert who(client, two["access_token"]) == 200
        body = {"refresh_token": two["refresh_token"], "everywhere": True}
        assert client.post("/api/auth/logout", json=body).status_code == 204
        assert who(client, three["access_token"]) == 401
        assert refresh(client, three["refresh_token"]).status_code == 401
        assert who(client, log_in(client)["access_token"]) == 200

    def test_a_token_of_an_ended_session_ends_nothing_else(
        self, client: TestClient, services: Services
    ) -> None:
        one, two = log_in(client), log_in(client)
        for body in ({}, {"everywhere": True}, {"everywhere": True}, {}):
            client.post("/api/auth/logout", json={"refresh_token": one["refresh_token"], **body})
        assert who(client, two["access_token"]) == 200
        with services.database.tenant(services.once(default_tenant)) as session:
            ended = session.scalars(select(AuditEntry).where(AuditEntry.action == "auth.logout")).all()
        assert len(ended) == 1

    def test_a_used_token_ends_its_own_session_only(self, client: TestClient) -> None:
        one, two = log_in(client), log_in(client)
        refresh(client, one["refresh_token"])
        body = {"refresh_token": one["refresh_token"], "everywhere": True}
        answer = client.post("/api/auth/logout", json=body)
        assert (answer.status_code, answer.json()["detail"]) == (
            401,
            "the refresh token is used, expired or revoked; log in to end all sessions",
        )
        assert client.post("/api/auth/logout", json={**body, "everywhere": False}).status_code == 204
        assert (who(client, one["access_token"]), who(client, two["access_token"])) == (401, 200)

    def test_without_any_token_is_refused(self, client: TestClient) -> None:
        assert client.post("/api/auth/logout").status_code == 401

    def test_is_heeded_by_another_replica_once_it_has_read_the_list(
        self, client: TestClient, services: Services
    ) -> None:
        replica = Revocations(services.database, timedelta(minutes=15), 1)
        replica.refresh()
        tokens = log_in(client)
        principal = services.once(token_verifier).verify(tokens["access_token"])
        seen = (principal.user_id, principal.credential.id, datetime.now(UTC))  # type: ignore[union-attr]
        assert not replica.covers(*seen)
        client.post("/api/auth/logout", json={"refresh": tokens["refresh"]})
        replica.refresh()
        assert replica.covers(*seen)
        services.once(revocations).refresh()
        assert who(client, tokens["access_token"]) == 401


class TestBrowser:
    def test_log_in_sets_cookies_that_scripts_cannot_read(
        self, client: TestClient, browser: TestClient
    ) -> None:
        answer = browser.post("/api/auth/login", json={"login": "anna", "password": PASSWORD})
        cookies = {line.partition("=")[0]: line.lower() for line in answer.headers.get_list("set-cookie")}
        for name in ("hounsfield_access", "hounsfield_refresh"):
            assert "httponly" in cookies[name] and "samesite" in cookies[name] and "path=/" in cookies[name]
            assert "secure" not in cookies[name]
        assert "httponly" not in cookies["hounsfield_csrf"]

    def test_under_tls_cookies_are_secure_and_bound_to_the_host(
        self, client: TestClient, browser_for: ClientFor
    ) -> None:
        browser = browser_for(base_url="https://testserver")
        answer = browser.post("/api/auth/login", json={"login": "anna", "password": PASSWORD})
        for line in answer.headers.get_list("set-cookie"):
            assert line.startswith("__Host-hounsfield_")
            assert "secure" in line.lower() and "domain" not in line.lower()
        assert browser.get("/api/auth/me").status_code == 200

    def test_is_known_by_its_cookie(self, browser: TestClient) -> None:
        assert browser.get("/api/auth/me").json()["username"] == "anna"

    def test_changes_nothing_without_the_csrf_token(self, browser: TestClient) -> None:
        for headers in ({}, {"X-CSRF-Token": "0" * 64}):
            answer = browser.patch("/api/auth/me", json={"title": "Dr"}, headers=headers)
            assert answer.status_code == 403
            assert "X-CSRF-Token" in answer.json()["detail"]
        changed = browser.patch("/api/auth/me", json={"title": "Dr"}, headers=csrf(browser))
        assert changed.json()["title"] == "Dr"

    def test_the_csrf_token_of_another_session_does_not_fit(
        self, browser: TestClient, browser_for: ClientFor
    ) -> None:
        other = browser_for()
        other.post("/api/auth/login", json={"login": "anna", "password": PASSWORD})
        browser.cookies.set("hounsfield_csrf", other.cookies["hounsfield_csrf"], domain="testserver.local")
        answer = browser.patch("/api/auth/me", json={"title": "Dr"}, headers=csrf(other))
        assert answer.status_code == 403

    def test_a_header_counts_before_the_cookie(self, browser: TestClient) -> None:
        assert browser.get("/api/auth/me", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert browser.get("/api/auth/me", headers={"X-API-Key": "hsk_wrong"}).status_code == 401

    def test_refreshes_by_cookie_with_the_csrf_token(self, browser: TestClient) -> None:
        before = dict(browser.cookies)
        assert browser.post("/api/auth/refresh").status_code == 403
        assert browser.post("/api/auth/refresh", headers=csrf(browser)).status_code == 200
        assert browser.cookies["hounsfield_refresh"] != before["hounsfield_refresh"]
        assert browser.get("/api/auth/me").status_code == 200

    def test_logs_out_by_cookie_and_forgets_it(self, browser: TestClient) -> None:
        assert browser.post("/api/auth/logout").status_code == 403
        assert browser.post("/api/auth/logout", headers=csrf(browser)).status_code == 204
        assert not dict(browser.cookies)
        assert browser.get("/api/auth/me").status_code == 401

    def test_registers_with_a_cookie_that_is_good_no_more(self, browser: TestClient) -> None:
        kept = browser.cookies["hounsfield_access"]
        assert browser.post("/api/auth/logout", headers=csrf(browser)).status_code == 204
        for name, cookie in (("berta", kept), ("clara", "nonsense")):
            browser.cookies.set("hounsfield_access", cookie, domain="testserver.local")
            assert browser.get("/api/auth/me").status_code == 401
            account = {"email": f"{name}@hospital.example", "password": PASSWORD}
            assert browser.post("/api/auth/register", json=account).status_code == 201

    def test_does_not_register_as_nobody_while_its_session_might_be_refreshed(
        self, browser: TestClient
    ) -> None:
        browser.cookies.delete("hounsfield_access")
        account = {"email": "berta@hospital.example", "password": PASSWORD, "role": "doctor"}
        answer = browser.post("/api/auth/register", json=account)
        assert (answer.status_code, answer.json()["detail"]) == (
            401,
            "the session has ended: refresh it, log in again, or log out",
        )
        browser.post("/api/auth/logout", headers=csrf(browser))
        assert browser.post("/api/auth/register", json=account).json()["role"] == "user"

    def test_does_not_register_with_a_header_that_is_wrong(self, browser: TestClient) -> None:
        account = {"email": "berta@hospital.example", "password": PASSWORD}
        for headers in ({"Authorization": "Bearer wrong"}, {"X-API-Key": "hsk_wrong"}):
            assert browser.post("/api/auth/register", json=account, headers=headers).status_code == 401

    def test_logs_out_after_the_access_token_has_expired(self, browser: TestClient) -> None:
        browser.cookies.delete("hounsfield_access")
        assert browser.post("/api/auth/logout").status_code == 403
        assert browser.post("/api/auth/logout", headers=csrf(browser)).status_code == 204

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Origin": "http://testserver.evil.example"},
            {"Origin": "https://testserver"},
            {"Origin": "ftp://testserver"},
            {"Origin": "http://testserver:8080"},
        ],
    )
    def test_is_not_logged_in_by_a_page_of_another_site(
        self, client: TestClient, headers: dict[str, str]
    ) -> None:
        form = {"username": "anna", "password": PASSWORD}
        answer = client.post("/api/auth/login", data=form, headers=headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers

    @pytest.mark.parametrize(
        ("given", "headers", "origin"),
        [
            ({}, {}, "http://testserver"),
            ({"public_url": "https://h.example/"}, {}, "https://h.example"),
            ({"trusted_proxies": ["testclient"]}, {"X-Forwarded-Proto": "https"}, "https://testserver"),
        ],
        ids=["ours", "PUBLIC_URL", "a proxy's TLS"],
    )
    def test_may_be_logged_in_by_our_own_page_and_by_no_other_scheme_of_our_host(
        self,
        client_for: ClientFor,
        client: TestClient,
        services: Services,
        given: dict[str, Any],
        headers: dict[str, str],
        origin: str,
    ) -> None:
        for name, value in given.items():
            setattr(services.settings, name, value)
        other = origin.replace("https:", "http:") if "https" in origin else origin.replace("http:", "https:")
        own = client_for()
        for page, status in ((origin, 200), (other, 403)):
            answer = own.post(
                "/api/auth/login",
                json={"login": "anna", "password": PASSWORD},
                headers={"Origin": page, **headers},
            )
            assert answer.status_code == status, page

    def test_may_be_logged_in_by_a_page_that_the_settings_name(
        self, client: TestClient, services: Services
    ) -> None:
        services.settings.cors_origins = ["https://app.hospital.example"]
        answer = client.post(
            "/api/auth/login",
            json={"login": "anna", "password": PASSWORD},
            headers={"Origin": "https://app.hospital.example"},
        )
        assert answer.status_code == 200


def test_rows_of_sessions_that_ended_long_ago_are_deleted(client: TestClient, services: Services) -> None:
    log_in(client)
    kept = log_in(client)["refresh_token"]
    with services.database.system() as session:
        oldest = select(RefreshToken.id).order_by(RefreshToken.id).limit(2)
        long_ago = datetime.now(UTC) - timedelta(days=30)
        session.execute(update(RefreshToken).where(RefreshToken.id.in_(oldest)).values(expires_at=long_ago))
    assert clean_sessions(services) == 2
    assert refresh(client, kept).status_code == 200


def test_log_ins_at_once_agree_on_the_hash_that_one_of_them_renews(
    client: TestClient, services: Services
) -> None:
    old = PasswordHasher(6).hash(PASSWORD)
    with services.database.system() as session:
        session.execute(update(User).values(password_hash=old))
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: log_in(client), range(6)))
    assert len({answer["refresh_token"] for answer in answers}) == 6


def test_a_hash_of_another_cost_is_renewed_by_a_log_in_and_the_account_is_not_changed_by_that(
    client: TestClient, services: Services
) -> None:
    def account() -> tuple[str | None, datetime]:
        with services.database.system() as session:
            hashed, changed = session.execute(select(User.password_hash, User.updated_at)).one()
        return hashed, changed

    old = PasswordHasher(5).hash(PASSWORD)
    with services.database.system() as session:
        session.execute(update(User).values(password_hash=old))
    before = account()
    log_in(client)
    renewed, changed = account()
    assert renewed is not None
    assert (renewed[:7], changed) == ("$2b$04$", before[1])
    log_in(client)
    assert account() == (renewed, changed)


def test_all_take_as_long_as_the_dearest_hash_there_is(client: TestClient, services: Services) -> None:
    with services.database.system() as session:
        assert highest_cost(session) == services.settings.bcrypt_cost
        session.execute(update(User).values(password_hash=PasswordHasher(7).hash(PASSWORD)))
        assert highest_cost(session) == 7
        session.execute(update(User).values(password_hash="from another system"))
        assert highest_cost(session) is None
