from typing import Any

import pytest
from pydantic import ValidationError

from shared.config import Settings


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_database_url_needs_no_driver(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_DATABASE_URL", f"{scheme}://me:hunter2@db/hounsfield")
    settings = Settings()
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql+psycopg2://me:hunter2@db/hounsfield"
    assert "hunter2" not in repr(settings)


def test_origins_are_a_comma_separated_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_CORS_ORIGINS", "https://a.example, https://b.example,")
    assert Settings().cors_origins == ["https://a.example", "https://b.example"]


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "a.example",
        "https://a.example/",
        "https://a.example/app",
        "HTTPS://a.example",
        "ftp://a.example",
    ],
)
def test_an_origin_is_what_a_browser_would_send(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_CORS_ORIGINS", f"https://b.example,{origin}")
    with pytest.raises(ValidationError, match="is no origin; write https://host or https://host:port"):
        Settings()


@pytest.mark.parametrize("origin", ["http://localhost:5173", "https://a.example", "https://[::1]:8443"])
def test_an_origin_may_have_a_port(origin: str) -> None:
    assert Settings(cors_origins=[origin]).cors_origins == [origin]


@pytest.mark.parametrize("proxy", ["*", "proxy.example", "10.0.0.1/8", "10.0.0.0/33"])
def test_a_trusted_proxy_is_an_address_or_a_network(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_TRUSTED_PROXIES", f"192.0.2.1, 2001:db8::/32,{proxy}")
    with pytest.raises(ValidationError, match="write an address, or a network such as"):
        Settings()


@pytest.mark.parametrize("half", ["tls_cert_file", "tls_key_file"])
def test_a_certificate_needs_its_key(half: str) -> None:
    with pytest.raises(ValidationError, match="needs both TLS_CERT_FILE and TLS_KEY_FILE"):
        Settings(**{half: "chain.pem"})


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"host": "hounsfield.hospital.example", "port": 80}, "http://hounsfield.hospital.example:80"),
        ({"tls_cert_file": "a.pem", "tls_key_file": "b.pem", "port": 8443}, "https://127.0.0.1:8443"),
        ({"host": "::1"}, "http://[::1]:8000"),
        ({"public_url": "https://h.example/mri/"}, "https://h.example/mri"),
        ({"public_url": "HTTPS://H.Example:443/"}, "https://h.example"),
        ({"public_url": "http://[::1]:8443"}, "http://[::1]:8443"),
    ],
)
def test_clients_reach_us_where_we_listen_unless_the_settings_say_otherwise(
    given: dict[str, Any], url: str
) -> None:
    assert Settings(**given).base_url == url


@pytest.mark.parametrize(
    "url", ["hounsfield.example", "ftp://h.example", "https://", "https://h.example:port"]
)
def test_a_public_url_is_one_that_browsers_open(url: str) -> None:
    with pytest.raises(ValidationError, match="public_url"):
        Settings(public_url=url)


@pytest.mark.parametrize("token", ["", "   "])
def test_an_empty_token_is_none_and_opens_nothing(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_EVENTS_TOKEN", token)
    assert Settings().events_token is None


def test_a_token_that_is_soon_guessed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_EVENTS_TOKEN", "secret")
    with pytest.raises(ValidationError, match="at least 16 characters"):
        Settings()
