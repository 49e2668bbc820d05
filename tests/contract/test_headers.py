"""What every answer tells a browser, which pages of other origins may call, and the documentation that works offline."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from functions import auth
from shared.http.app import create_api, harden
from shared.http.docs import ASSETS
from shared.runtime.services import Services
from tests.contract.conftest import ClientFor

STRICT = {
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
OURS, OTHER = "https://viewer.hospital.example", "https://elsewhere.example"
Configured = Callable[..., TestClient]


@pytest.fixture
def configured(services: Services) -> Configured:
    """`configured(setting=…)`: a client of an application with these settings."""

    def start(base_url: str = "http://testserver", **more: Any) -> TestClient:
        changed = services.settings.model_copy(update=more)
        other = Services(changed, services.database, services.storage)
        app = harden(create_api([auth.function], other, {}), other)
        return TestClient(app, base_url=base_url, raise_server_exceptions=False)

    return start


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/healthz", 200),
        ("HEAD", "/api/healthz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/api/auth/me", 401),
        ("GET", "/api/nowhere", 404),
        ("DELETE", "/api/healthz", 405),
        ("OPTIONS", "/api/healthz", 405),
        ("POST", "/api/auth/login", 400),
        ("GET", "/api/healthz?" + "a" * 40000, 431),
        ("GET", "/docs/nothing.js", 404),
    ],
)
def test_every_answer_is_locked_down(client_for: ClientFor, method: str, path: str, status: int) -> None:
    answer = client_for().request(method, path)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in STRICT} == STRICT
    assert "camera=()" in answer.headers["permissions-policy"]
    assert "strict-transport-security" not in answer.headers
    assert "server" not in answer.headers
    assert "x-powered-by" not in answer.headers


def test_a_route_may_say_otherwise(client_for: ClientFor) -> None:
    assert client_for().get("/api/auth/jwks.json").headers["cache-control"] == "public, max-age=300"


@pytest.mark.parametrize(
    "tls", [{"base_url": "https://testserver"}, {"public_url": "https://hounsfield.hospital.example"}]
)
@pytest.mark.parametrize("path", ["/api/healthz", "/api/nowhere", "/docs"])
def test_under_tls_browsers_are_told_to_stay_there(
    configured: Configured, tls: dict[str, str], path: str
) -> None:
    assert configured(**tls).get(path).headers["strict-transport-security"] == "max-age=31536000"


def preflight(client: TestClient, origin: str, method: str = "PATCH", headers: str = "x-csrf-token") -> Any:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return client.options("/api/auth/me", headers={"Origin": origin, **asked})


def test_a_page_that_the_settings_name_may_call_with_its_cookies(configured: Configured) -> None:
    client = configured(cors_origins=[OURS])
    asked = "authorization, content-type, idempotency-key, if-match, if-none-match, range, traceparent, x-api-key, x-csrf-token"
    allowed = preflight(client, OURS, headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == OURS
    assert allowed.headers["access-control-allow-credentials"] == "true"
    assert "*" not in allowed.headers["access-control-allow-methods"]
    assert allowed.headers["access-control-max-age"] == "600"
    assert allowed.headers["x-content-type-options"] == "nosniff"
    answer = client.get("/api/healthz", headers={"Origin": OURS})
    assert answer.headers["access-control-allow-origin"] == OURS
    assert "Origin" in answer.headers["vary"]
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"ETag", "Link", "Location", "Retry-After", "traceresponse"} <= set(exposed)


@pytest.mark.parametrize("path", ["/api/nowhere", "/api/auth/me"])
def test_it_may_read_what_is_wrong_too(configured: Configured, path: str) -> None:
    answer = configured(cors_origins=[OURS]).get(path, headers={"Origin": OURS})
    assert answer.headers["access-control-allow-origin"] == OURS


@pytest.mark.parametrize("more", [{"method": "TRACE"}, {"headers": "x-other"}])
def test_a_method_or_header_that_nobody_needs_is_not_allowed(
    configured: Configured, more: dict[str, str]
) -> None:
    assert preflight(configured(cors_origins=[OURS]), OURS, **more).status_code == 400


@pytest.mark.parametrize(
    "origin",
    [OTHER, "null", OURS + ".evil.example", OURS.replace("https", "http"), OURS + ":8443", OURS.upper()],
)
@pytest.mark.parametrize("origins", [[OURS], []])
def test_no_other_page_learns_anything(configured: Configured, origin: str, origins: list[str]) -> None:
    client = configured(cors_origins=origins)
    for answer in (preflight(client, origin), client.get("/api/healthz", headers={"Origin": origin})):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert preflight(client, origin).status_code == 405


def test_a_cache_keeps_answers_to_different_origins_apart(configured: Configured) -> None:
    client = configured(cors_origins=[OURS])
    for headers in ({}, {"Origin": OTHER}, {"Origin": OURS}):
        assert "Origin" in client.get("/api/healthz", headers=headers).headers["vary"]


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/api/docs", "/redoc", "/api/redoc/"])
def test_the_documentation_needs_no_other_host(client_for: ClientFor, path: str) -> None:
    client = client_for()
    page = client.get(path)
    assert page.status_code == 200
    links = [link for link in re.findall(r'(?:src|href|spec-url)="([^"]+)"', page.text) if link != "data:,"]
    assert links and all(link.startswith("/api/") for link in links)
    assert all(client.get(link).status_code == 200 for link in links)


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_script_within_the_page_runs(client_for: ClientFor, path: str) -> None:
    page = client_for().get(path)
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["script-src"]) == ("'none'", "'self'")
    assert policy["connect-src"] == "'self'"
    assert re.findall(r"<script(?![^>]* src=)", page.text) == []
    assert " onload=" not in page.text


@pytest.mark.parametrize("name", [*ASSETS, "start.js"])
def test_its_files_may_be_kept_and_say_what_they_are(client_for: ClientFor, name: str) -> None:
    file = client_for().get(f"/api/docs/{name}")
    assert file.headers["content-type"].startswith("text/css" if name.endswith(".css") else "text/javascript")
    assert file.headers["cache-control"] == "public, max-age=86400"


@pytest.mark.parametrize("name", ["..%2fcore.py", "%2e%2e/core.py", "favicon.png", ".."])
def test_nothing_else_is_served_from_there(client_for: ClientFor, name: str) -> None:
    assert client_for().get(f"/api/docs/{name}").status_code == 404
