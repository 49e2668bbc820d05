"""Changing a password, and resetting one that was forgotten, over HTTP."""

import email
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from typing import Any

import httpx
import pytest
import uvicorn
from httpx import Response
from pydantic import SecretStr
from sqlalchemy import select, update
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from functions import auth
from functions.auth.passwords.service import PREFIX
from shared.config import Settings
from shared.db.models import AuditEntry, PasswordReset, User
from shared.http.app import create_api, harden
from shared.runtime.services import Services
from shared.security.api_keys import secret_hash
from tests.contract.conftest import PASSWORD, ClientFor, LogIn
from tests.integration.installation import free_port

NEW = "another horse battery"
ANNA = "anna@hospital.example"
TOKEN = re.compile(rf"{PREFIX}[\w-]{{43}}")


@pytest.fixture
def client(client_for: ClientFor) -> TestClient:
    return client_for()


@pytest.fixture
def anna(client: TestClient, register_and_login: LogIn) -> dict[str, str]:
    """Headers of a user."""
    return register_and_login(client, "anna")


Mails = Callable[[], list[EmailMessage]]


@pytest.fixture
def mails(settings: Settings) -> Mails:
    """Every mail so far, oldest first."""

    def read() -> list[EmailMessage]:
        files = sorted((settings.data_dir / "mail").glob("*.eml"))
        return [email.message_from_bytes(file.read_bytes(), policy=default) for file in files]

    return read


def log_in(client: TestClient, password: str, name: str = "anna") -> Response:
    answer: Response = client.post("/api/auth/login", json={"login": name, "password": password})
    return answer


def bearer(answer: Response) -> dict[str, str]:
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def who(client: TestClient, headers: dict[str, str]) -> int:
    status: int = client.get("/api/auth/me", headers=headers).status_code
    return status


def change(client: TestClient, headers: dict[str, str], current: str = PASSWORD, new: str = NEW) -> Response:
    body = {"current_password": current, "new_password": new}
    answer: Response = client.post("/api/auth/me/password", json=body, headers=headers)
    return answer


def ask(client: TestClient, address: str = ANNA) -> Response:
    answer: Response = client.post("/api/auth/reset-password", json={"email": address})
    return answer


def confirm(client: TestClient, token: str, password: str = NEW) -> Response:
    body = {"token": token, "password": password}
    answer: Response = client.post("/api/auth/reset-password/confirm", json=body)
    return answer


def token_in(mail: EmailMessage) -> str:
    (token,) = set(TOKEN.findall(mail.get_content()))
    return str(token)


def audited(services: Services, action: str) -> list[AuditEntry]:
    """What the log says of anna's account."""
    with services.database.system() as session:
        anna = session.scalars(select(User).where(User.username == "anna")).one()
    with services.database.tenant(anna.tenant_id) as session:
        rows = select(AuditEntry).where(AuditEntry.action == action, AuditEntry.subject_id == anna.id)
        return list(session.scalars(rows.order_by(AuditEntry.seq)))


def use_smtp(services: Services, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first mail: send by SMTP, with little waiting between tries."""
    services.settings.smtp_url = SecretStr(url)
    monkeypatch.setattr("functions.auth.mail.postman.FIRST_WAIT_SECONDS", 0.01)


def change_account(services: Services, **values: Any) -> None:
    with services.database.system() as session:
        session.execute(update(User).where(User.username == "anna").values(**values))


class TestChange:
    def test_only_the_new_password_lets_in_afterwards(self, client: TestClient, anna: dict[str, str]) -> None:
        assert change(client, anna).status_code == 200
        assert log_in(client, PASSWORD).status_code == 401
        assert log_in(client, NEW).status_code == 200

    def test_ends_every_session_and_answers_with_a_new_one(
        self, client: TestClient, anna: dict[str, str]
    ) -> None:
        elsewhere = log_in(client, PASSWORD)
        answer = change(client, anna)
        assert who(client, bearer(answer)) == 200
        assert who(client, anna) == who(client, bearer(elsewhere)) == 401
        old, new = (
            client.post("/api/auth/refresh", json={"refresh_token": tokens.json()["refresh_token"]})
            for tokens in (elsewhere, answer)
        )
        assert (old.status_code, new.status_code) == (401, 200)

    def test_a_browser_keeps_its_session_by_new_cookies(
        self, client: TestClient, anna: dict[str, str], browser_for: ClientFor
    ) -> None:
        browser = browser_for()
        log_in(browser, PASSWORD)
        body = {"current_password": PASSWORD, "new_password": NEW}
        assert browser.post("/api/auth/me/password", json=body).status_code == 403  # without the CSRF token
        csrf = {"X-CSRF-Token": browser.cookies["hounsfield_csrf"]}
        assert browser.post("/api/auth/me/password", json=body, headers=csrf).status_code == 200
        assert browser.get("/api/auth/me").status_code == 200
        assert who(client, anna) == 401

    def test_a_program_gets_no_cookies(self, client: TestClient, anna: dict[str, str]) -> None:
        assert "set-cookie" not in change(client, anna).headers

    @pytest.mark.parametrize(
        "current", ["current_password", "currentPassword", "old_password", "oldPassword"]
    )
    @pytest.mark.parametrize("new", ["new_password", "newPassword", "password"])
    def test_takes_the_fields_by_the_older_systems_names_too(
        self, client: TestClient, anna: dict[str, str], current: str, new: str
    ) -> None:
        answer = client.post("/api/auth/me/password/", json={current: PASSWORD, new: NEW}, headers=anna)
        assert answer.status_code == 200

    def test_a_wrong_password_changes_nothing_and_is_told(
        self, client: TestClient, anna: dict[str, str], services: Services, mails: Mails
    ) -> None:
        answer = change(client, anna, current="not my password")
        assert answer.status_code == 403
        assert answer.json()["errors"][0]["field"] == "current_password"
        assert "not my password" not in answer.text
        assert log_in(client, PASSWORD).status_code == 200
        assert who(client, anna) == 200
        assert [row.outcome for row in audited(services, "auth.password")] == ["failure"]
        assert mails() == []

    def test_a_stolen_token_is_no_way_to_guess_the_password(
        self, client: TestClient, anna: dict[str, str], services: Services
    ) -> None:
        most = services.settings.account_failures
        answers = [change(client, anna, current=f"guess number {number}") for number in range(most)]
        assert {answer.status_code for answer in answers} == {403}
        refused = change(client, anna)  # the right one now
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert log_in(client, PASSWORD).status_code == 401, "the right one, of a locked account"

    def test_guesses_that_come_all_at_once_are_counted_too(
        self, client: TestClient, anna: dict[str, str], services: Services
    ) -> None:
        most = services.settings.account_failures
        with ThreadPoolExecutor(8) as pool:
            guesses = pool.map(lambda n: change(client, anna, current=f"guess number {n}"), range(most + 6))
            statuses = sorted(answer.status_code for answer in guesses)
        assert statuses == [403] * most + [429] * 6

    def test_the_right_password_makes_earlier_guesses_forgotten(
        self, client: TestClient, anna: dict[str, str], services: Services
    ) -> None:
        headers, current, new = anna, PASSWORD, NEW
        for _ in range(3):
            for number in range(services.settings.account_failures - 1):
                assert change(client, headers, current=f"guess number {number}").status_code == 403
            answer = change(client, headers, current, new)
            assert answer.status_code == 200
            headers, current, new = bearer(answer), new, current

    @pytest.mark.parametrize(
        ("new", "reason"),
        [
            ("short", "at least 8 characters"),
            ("password123", "most common"),
            ("é" * 37, "longer than 72 bytes"),
            (ANNA, "own e-mail address"),
            (PASSWORD, "has already"),
        ],
    )
    def test_a_poor_password_is_refused_before_the_current_one_is_looked_at(
        self, client: TestClient, anna: dict[str, str], services: Services, new: str, reason: str
    ) -> None:
        for _ in range(services.settings.account_failures + 1):
            answer = change(client, anna, new=new)
        assert answer.status_code == 422
        assert reason in answer.json()["detail"]
        assert answer.json()["errors"][0]["field"] == "new_password"
        assert new not in answer.text.replace("most common ones", "")

    def test_an_account_without_a_password_is_sent_to_the_reset(
        self, client: TestClient, anna: dict[str, str], services: Services
    ) -> None:
        change_account(services, password_hash=None)
        answer = change(client, anna)
        assert answer.status_code == 409
        assert "reset-password" in answer.json()["detail"]

    def test_is_logged_with_the_credential_and_mailed_to_the_owner(
        self, client: TestClient, anna: dict[str, str], services: Services, mails: Mails
    ) -> None:
        change(client, anna)
        (row,) = audited(services, "auth.password")
        assert (row.outcome, row.actor_id) == ("success", row.subject_id)
        assert row.credential is not None and row.credential.startswith("token:")
        (mail,) = mails()
        assert mail["To"] == ANNA
        assert "changed" in mail["Subject"]
        assert NEW not in mail.get_content()

    def test_of_two_changes_at_once_one_wins(self, client: TestClient, anna: dict[str, str]) -> None:
        passwords = [f"{NEW} {number}" for number in range(4)]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda new: change(client, anna, new=new), passwords))
        won = [new for new, answer in zip(passwords, answers, strict=True) if answer.status_code == 200]
        assert len(won) == 1
        assert {answer.status_code for answer in answers} <= {200, 401, 403, 409}
        assert log_in(client, won[0]).status_code == 200

    def test_needs_a_log_in(self, client: TestClient) -> None:
        assert change(client, {}).status_code == 401


class TestAskingForAReset:
    def test_mails_a_token_that_is_kept_as_a_hash_only(
        self, client: TestClient, anna: dict[str, str], services: Services, mails: Mails
    ) -> None:
        assert ask(client).status_code == 202
        (mail,) = mails()
        token = token_in(mail)
        assert mail["To"] == ANNA
        with services.database.system() as session:
            reset = session.scalars(select(PasswordReset)).one()
        assert reset.token_hash == secret_hash(token)
        life = reset.expires_at - datetime.now(UTC)
        assert timedelta(minutes=29) < life <= timedelta(minutes=30)

    def test_the_mail_says_what_to_do_and_that_it_can_be_ignored(
        self, client: TestClient, anna: dict[str, str], mails: Mails
    ) -> None:
        ask(client)
        (mail,) = mails()
        text = mail.get_content()
        assert f"http://127.0.0.1:8000/reset-password#token={token_in(mail)}" in text
        assert "for 30 minutes" in text
        assert "ignore this mail" in text

    def test_the_link_leads_where_the_settings_say_whatever_host_was_asked(
        self, client: TestClient, anna: dict[str, str], services: Services, mails: Mails
    ) -> None:
        services.settings.public_url = "https://hounsfield.hospital.example"
        headers = {
            "Host": "evil.example",
            "X-Forwarded-Host": "evil.example",
            "Origin": "https://evil.example",
        }
        client.post("/api/auth/reset-password", json={"email": ANNA}, headers=headers)
        text = mails()[0].get_content()
        assert "https://hounsfield.hospital.example/reset-password#token=" in text
        assert "evil" not in text

    def test_the_answer_does_not_tell_who_has_an_account(
        self, client: TestClient, anna: dict[str, str], services: Services, mails: Mails
    ) -> None:
        known, other_case, unknown, no_address = (
            ask(client, address) for address in (ANNA, ANNA.upper(), "bob@hospital.example", "bob")
        )
        change_account(services, is_active=False)
        closed = ask(client)
        answers = [known, other_case, unknown, no_address, closed]
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.text for answer in answers}) == 1
        assert [mail["To"] for mail in mails()] == [ANNA, ANNA]

    def test_changes_nothing_by_itself(self, client: TestClient, anna: dict[str, str]) -> None:
        ask(client)
        assert log_in(client, PASSWORD).status_code == 200
        assert who(client, anna) == 200

    def test_an_account_gets_only_so_many_mails_and_nobody_is_told(
        self, client: TestClient, anna: dict[str, str], services: Services, mails: Mails
    ) -> None:
        most = services.settings.resets_per_hour
        answers = [ask(client) for _ in range(most + 3)]
        assert {answer.status_code for answer in answers} == {202}
        assert len(mails()) == most

    def test_an_address_may_ask_only_so_often_for_whatever_accounts(
        self, client: TestClient, anna: dict[str, str], services: Services, mails: Mails
    ) -> None:
        statuses = [ask(client, f"nobody-{number}@hospital.example").status_code for number in range(51)]
        assert statuses == [202] * 50 + [429]
        assert ask(client).status_code == 429
        assert mails() == []

    def test_is_logged_without_an_actor(
        self, client: TestClient, anna: dict[str, str], services: Services
    ) -> None:
        ask(client)
        (row,) = audited(services, "auth.reset.requested")
        assert (row.actor_id, row.address, row.outcome) == (None, "testclient", "success")

    @pytest.mark.parametrize("body", [{}, {"email": None}, {"email": ""}, {"token": "x"}, {"password": NEW}])
    def test_half_a_request_is_refused(self, client: TestClient, body: dict[str, Any]) -> None:
        assert client.post("/api/auth/reset-password", json=body).status_code == 422


class TestReset:
    @pytest.fixture
    def token(self, client: TestClient, anna: dict[str, str], mails: Mails) -> str:
        """What anna was mailed."""
        ask(client)
        return token_in(mails()[-1])

    def test_sets_the_password_and_ends_every_session(
        self, client: TestClient, anna: dict[str, str], token: str
    ) -> None:
        answer = confirm(client, token)
        assert (answer.status_code, answer.content) == (204, b"")
        assert who(client, anna) == 401
        assert log_in(client, PASSWORD).status_code == 401
        assert log_in(client, NEW).status_code == 200

    @pytest.mark.parametrize("name", ["password", "new_password", "newPassword"])
    @pytest.mark.parametrize("path", ["/api/auth/reset-password", "/api/auth/reset-password/confirm"])
    def test_takes_the_fields_and_the_path_by_the_older_systems_names_too(
        self, client: TestClient, token: str, path: str, name: str
    ) -> None:
        assert client.post(path, json={"token": token, name: NEW}).status_code == 204
        assert log_in(client, NEW).status_code == 200

    def test_a_token_works_once(self, client: TestClient, token: str) -> None:
        assert confirm(client, token).status_code == 204
        assert confirm(client, token, "a third passphrase").status_code == 422
        assert log_in(client, NEW).status_code == 200

    def test_a_token_works_once_for_callers_at_the_same_time(self, client: TestClient, token: str) -> None:
        passwords = [f"{NEW} {number}" for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda password: confirm(client, token, password), passwords))
        assert sorted(answer.status_code for answer in answers) == [204] + [422] * 7
        won = [p for p, answer in zip(passwords, answers, strict=True) if answer.status_code == 204]
        assert log_in(client, won[0]).status_code == 200

    def test_a_newer_token_makes_the_older_void(self, client: TestClient, token: str, mails: Mails) -> None:
        ask(client)
        assert confirm(client, token).status_code == 422
        assert confirm(client, token_in(mails()[-1])).status_code == 204

    def test_of_requests_at_the_same_time_one_token_is_left(
        self, client: TestClient, anna: dict[str, str], services: Services
    ) -> None:
        with ThreadPoolExecutor(5) as pool:
            assert {answer.status_code for answer in pool.map(lambda _: ask(client), range(5))} == {202}
        with services.database.system() as session:
            assert len(session.scalars(select(PasswordReset)).all()) == 1

    def test_a_changed_password_makes_tokens_void(
        self, client: TestClient, anna: dict[str, str], token: str
    ) -> None:
        assert change(client, anna).status_code == 200
        assert confirm(client, token, "a third passphrase").status_code == 422

    def test_whatever_is_wrong_with_a_token_the_words_are_the_same(
        self, client: TestClient, services: Services, token: str, register_and_login: LogIn, mails: Mails
    ) -> None:
        assert confirm(client, token).status_code == 204
        used = confirm(client, token)
        ask(client)
        with services.database.system() as session:
            session.execute(update(PasswordReset).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        expired = confirm(client, token_in(mails()[-1]))
        ask(client)
        change_account(services, is_active=False)
        closed = confirm(client, token_in(mails()[-1]))
        unknown, empty = confirm(client, PREFIX + "x" * 43), confirm(client, "")
        answers = [used, expired, closed, unknown, empty]
        assert {answer.status_code for answer in answers} == {422}
        assert len({answer.text for answer in answers}) == 1

    def test_a_poor_password_does_not_use_the_token_up(self, client: TestClient, token: str) -> None:
        for poor in ("short", "password123", ANNA):
            answer = confirm(client, token, poor)
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["field"] == "password"
        assert confirm(client, token).status_code == 204

    def test_lifts_the_lock_of_the_account(self, client: TestClient, services: Services, token: str) -> None:
        for number in range(services.settings.account_failures):
            log_in(client, f"guess number {number}")
        assert log_in(client, PASSWORD).status_code == 429
        assert confirm(client, token).status_code == 204
        assert log_in(client, NEW).status_code == 200

    def test_gives_a_password_to_an_account_that_had_none(
        self, client: TestClient, services: Services, token: str
    ) -> None:
        change_account(services, password_hash=None)
        assert confirm(client, token).status_code == 204
        assert log_in(client, NEW).status_code == 200

    def test_is_logged_and_mailed_to_the_owner(
        self, client: TestClient, services: Services, token: str, mails: Mails
    ) -> None:
        confirm(client, token)
        (row,) = audited(services, "auth.reset.completed")
        assert (row.actor_id, row.credential) == (row.subject_id, "password-reset")
        mail = mails()[-1]
        assert (mail["To"], "changed" in mail["Subject"]) == (ANNA, True)
        assert not TOKEN.search(mail.get_content())

    def test_neither_address_nor_token_is_logged(
        self, client: TestClient, anna: dict[str, str], mails: Mails, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        with capture_logs() as logs:
            for _ in range(7):
                ask(client)
            token = token_in(mails()[-1])
            assert confirm(client, token).status_code == 204
        said = f"{logs} {caplog.text}"
        assert logs  # that the account gets no more mails for now
        assert "anna" not in said and token not in said and NEW not in said


class TestPage:
    def test_is_where_the_mails_link_to_and_runs_its_own_script_only(
        self, client: TestClient, anna: dict[str, str], mails: Mails
    ) -> None:
        ask(client)
        (path,) = re.findall(r"http://127\.0\.0\.1:8000(\S*)#token=", mails()[0].get_content())
        page = client.get(path)
        assert page.headers["content-type"].startswith("text/html")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"


class TestMailServerTrouble:
    """A request is answered before its mail is begun."""

    @pytest.fixture
    def url(self, services: Services) -> Iterator[str]:
        """A real server, whose answers leave before background work is done."""
        app = harden(create_api([auth.function], services, {}), services)
        server = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_config=None, ws="none"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.config.port}/api/auth"
        server.should_exit = True
        thread.join()

    @pytest.fixture
    def hanging(self) -> Iterator[str]:
        """The URL of a mail server that takes connections and says nothing, until the test is over."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield f"smtp://127.0.0.1:{listener.getsockname()[1]}"

    def test_a_mail_server_that_hangs_delays_nobody_and_tells_nothing(
        self,
        services: Services,
        anna: dict[str, str],
        url: str,
        hanging: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        use_smtp(services, hanging, monkeypatch)

        def seconds(address: str) -> float:
            started = time.monotonic()
            with httpx.Client() as visitor:
                answer = visitor.post(f"{url}/reset-password", json={"email": address})
            assert answer.status_code == 202
            return time.monotonic() - started

        known, unknown = seconds(ANNA), seconds("bob@hospital.example")
        assert max(known, unknown) < 2  # the mail takes 10 s and more

    def test_a_mail_server_that_is_down_is_logged_and_the_request_still_accepted(
        self,
        client: TestClient,
        anna: dict[str, str],
        services: Services,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        use_smtp(services, f"smtp://127.0.0.1:{free_port()}", monkeypatch)
        with capture_logs() as logs:
            assert ask(client).status_code == 202
        (line,) = [line for line in logs if line["event"] == "mail not sent"]
        assert (line["log_level"], line["letter"]) == ("error", "reset")
        assert "anna" not in str(logs) and PREFIX not in str(logs)
