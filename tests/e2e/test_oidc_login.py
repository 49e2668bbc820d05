"""Logging in through a real OpenID Connect provider in a real browser, both over TLS, on two different sites."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page

from shared.db.embedded import EmbeddedPostgres
from tests.conftest import fresh_database
from tests.e2e.certificates import Authority
from tests.e2e.oidc_provider import (
    ANNA,
    BERT,
    CLIENT_ID,
    CLIENT_SECRET,
    Person,
    RunningProvider,
    running_provider,
)
from tests.integration.installation import START_SECONDS, free_port

pytestmark = pytest.mark.e2e
PAGE = "/docs"
"""A page of ours whose scripts may call the API."""
ACCESS, REFRESH, CSRF = (f"__Host-hounsfield_{name}" for name in ("access", "refresh", "csrf"))
FETCH = """
async ([method, path, headers, body]) => {
  const response = await fetch(path, {method, headers, body: body && JSON.stringify(body)});
  const text = await response.text();
  return {status: response.status, body: text && JSON.parse(text)};
}
"""


@dataclass(frozen=True)
class Site:
    """A running `hounsfield up` under TLS, and the provider that it sends people to."""

    url: str
    log: Path
    provider: RunningProvider


@pytest.fixture(scope="module")
def site(
    chromium_is_installed: None, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The provider is `localhost`, we are `127.0.0.1`: to a browser these are two sites."""
    folder = tmp_path_factory.mktemp("site")
    provider_folder = tmp_path_factory.mktemp("provider")
    url = f"https://127.0.0.1:{free_port()}"
    back = f"{url}/api/auth/oidc/callback"
    with (
        running_provider(provider_folder, free_port(), back) as provider,
        fresh_database(postgres) as database_url,
    ):
        yield from _running_site(folder, url, database_url, provider)


def _running_site(folder: Path, url: str, database_url: str, provider: RunningProvider) -> Iterator[Site]:
    authority = Authority(folder)
    certificate, key = authority.issue("127.0.0.1")
    environment = {
        **os.environ,
        "HOUNSFIELD_DATABASE_URL": database_url,
        "HOUNSFIELD_MODEL_URL": f"http://127.0.0.1:{free_port()}",  # nobody analyses anything here
        "HOUNSFIELD_TLS_CERT_FILE": str(certificate),
        "HOUNSFIELD_TLS_KEY_FILE": str(key),
        "HOUNSFIELD_OIDC_ISSUER": provider.issuer,
        "HOUNSFIELD_OIDC_CLIENT_ID": CLIENT_ID,
        "HOUNSFIELD_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "HOUNSFIELD_OIDC_CA_FILE": str(provider.ca_file),
        "HOUNSFIELD_OIDC_ROLE_CLAIM": "groups",
        "HOUNSFIELD_OIDC_ROLES": '{"imaging": "radiologist"}',
        "HOUNSFIELD_LOG_LEVEL": "DEBUG",
    }
    command = [sys.executable, "-c", "from functions.cli import main; main()", "up"]
    command += ["--data-dir", str(folder / "data"), "--port", url.rpartition(":")[2]]
    log = folder / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        _wait_until_it_answers(url, authority, process, log)
        yield Site(url, log, provider)
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_it_answers(
    url: str, authority: Authority, process: "subprocess.Popen[bytes]", log: Path
) -> None:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(verify=authority.trusted(), trust_env=False) as http:
        while True:
            try:
                http.get(f"{url}/api/healthz").raise_for_status()
                return
            except httpx.TransportError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.1)


@pytest.fixture
def page(browser: BrowserContext) -> Page:
    """An open page."""
    return browser.new_page()


def fill_in(page: Page, site: Site, person: Person, password: str | None = None) -> None:
    """Start at our side, and send the provider's log-in form."""
    page.goto(f"{site.url}/api/auth/oidc/login?next={PAGE}")
    assert page.url.startswith(f"{site.provider.issuer}/login/"), page.url
    page.get_by_label("Username").fill(person.name)
    page.get_by_label("Password").fill(password or person.password)
    page.get_by_role("button", name="Log in").click()


def log_in(page: Page, site: Site, person: Person) -> None:
    """Click through the provider's forms until the browser is back."""
    fill_in(page, site, person)
    page.get_by_role("button", name="Authorize").click()
    page.wait_for_url(site.url + PAGE)


def fetch(page: Page, method: str, path: str, headers: dict[str, str], body: Any = None) -> dict[str, Any]:
    """What a script of the page gets."""
    answer: dict[str, Any] = page.evaluate(FETCH, [method, path, headers, body])
    return answer


def our_cookies(browser: BrowserContext, site: Site) -> dict[str, Any]:
    """Our cookies in the browser, by name."""
    return {cookie["name"]: cookie for cookie in browser.cookies(site.url)}


def test_the_log_in_ends_in_a_session_that_scripts_cannot_steal(
    browser: BrowserContext, page: Page, site: Site, tmp_path: Path
) -> None:
    page.goto(f"{site.url}/api/auth/oidc/login")
    page.screenshot(path=tmp_path / "form.png")
    log_in(page, site, ANNA)
    page.get_by_text("Log in through the identity provider").wait_for()
    page.screenshot(path=tmp_path / "logged-in.png")

    cookies = our_cookies(browser, site)
    assert set(cookies) == {ACCESS, REFRESH, CSRF}, "the attempt's cookie is gone"
    assert all(cookie["secure"] and cookie["path"] == "/" for cookie in cookies.values())
    assert all(cookie["domain"] == "127.0.0.1" for cookie in cookies.values()), "of this host only"
    assert (cookies[ACCESS]["httpOnly"], cookies[ACCESS]["sameSite"]) == (True, "Lax")
    assert (cookies[REFRESH]["httpOnly"], cookies[REFRESH]["sameSite"]) == (True, "Strict")
    assert (cookies[CSRF]["httpOnly"], cookies[CSRF]["sameSite"]) == (False, "Lax")
    assert page.evaluate("document.cookie") == f"{CSRF}={cookies[CSRF]['value']}"


def test_a_page_uses_the_session_by_cookie_and_changes_things_with_the_csrf_token_only(
    browser: BrowserContext, page: Page, site: Site
) -> None:
    log_in(page, site, ANNA)
    me = fetch(page, "GET", "/api/auth/me", {})
    assert (me["status"], me["body"]["email"], me["body"]["role"]) == (200, ANNA.email, "radiologist")

    plain = {"Content-Type": "application/json"}
    change = {"department": "Neuroradiology"}
    assert fetch(page, "PATCH", "/api/auth/me", plain, change)["status"] == 403
    token = our_cookies(browser, site)[CSRF]["value"]
    changed = fetch(page, "PATCH", "/api/auth/me", {**plain, "X-CSRF-Token": token}, change)
    assert (changed["status"], changed["body"]["department"]) == (200, "Neuroradiology")


def test_logging_out_clears_the_browser_and_voids_the_token(
    browser: BrowserContext, page: Page, site: Site
) -> None:
    log_in(page, site, ANNA)
    before = our_cookies(browser, site)
    left = fetch(page, "POST", "/api/auth/logout", {"X-CSRF-Token": before[CSRF]["value"]})
    assert left["status"] == 204
    assert our_cookies(browser, site) == {}
    assert fetch(page, "GET", "/api/auth/me", {})["status"] == 401
    kept = {"Authorization": f"Bearer {before[ACCESS]['value']}"}
    assert fetch(page, "GET", "/api/auth/me", kept)["status"] == 401


def test_the_second_log_in_is_the_same_account(page: Page, site: Site) -> None:
    log_in(page, site, BERT)
    first = fetch(page, "GET", "/api/auth/me", {})["body"]
    assert first["role"] == "user"
    page.goto(f"{site.url}/api/auth/oidc/login")  # the provider knows the browser by now
    page.get_by_role("button", name="Authorize").click()
    page.wait_for_url(f"{site.url}/api/auth/me")
    assert json.loads(page.inner_text("body"))["id"] == first["id"]


def test_who_cancels_at_the_provider_is_not_logged_in(
    browser: BrowserContext, page: Page, site: Site
) -> None:
    fill_in(page, site, ANNA)
    with page.expect_response(lambda response: "/oidc/callback" in response.url) as back:
        page.get_by_role("button", name="Cancel").click()
    assert back.value.status == 403
    assert "refused" in back.value.json()["detail"]
    assert ACCESS not in our_cookies(browser, site)


def test_a_wrong_password_stays_at_the_provider(browser: BrowserContext, page: Page, site: Site) -> None:
    fill_in(page, site, ANNA, password="guessed")
    page.get_by_text("Please enter a correct username and password").wait_for()
    assert page.url.startswith(site.provider.issuer)
    assert ACCESS not in our_cookies(browser, site)


def test_an_answer_cannot_be_used_again(page: Page, site: Site) -> None:
    answers: list[str] = []
    page.on("request", lambda request: answers.append(request.url) if "/callback?" in request.url else None)
    log_in(page, site, ANNA)
    again = page.goto(answers[0])
    assert again is not None and again.status == 400
    assert "start again" in again.json()["detail"]


def test_nothing_secret_is_in_the_log(browser: BrowserContext, page: Page, site: Site) -> None:
    answers: list[str] = []
    page.on("request", lambda request: answers.append(request.url) if "/callback?" in request.url else None)
    log_in(page, site, ANNA)
    log = site.log.read_text()
    assert log, "the server logs"
    query = httpx.URL(answers[0]).params
    values = [cookie["value"] for cookie in our_cookies(browser, site).values()]
    for secret in (query["code"], query["state"], CLIENT_SECRET, ANNA.email, *values):
        assert secret not in log
