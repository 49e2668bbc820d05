"""`hounsfield buckets notify`: the address that the store is given."""

import pytest
from pydantic import SecretStr

from functions.cli.buckets import endpoint
from shared.config import Settings
from shared.errors import Invalid

OURS = "https://hounsfield.hospital.example:8443/api/events"


def test_the_token_is_the_password_whatever_its_signs() -> None:
    settings = Settings(events_token=SecretStr("a/b:c@d e, and more"))
    address = (
        "https://hounsfield:a%2Fb%3Ac%40d%20e%2C%20and%20more@hounsfield.hospital.example:8443/api/events"
    )
    assert endpoint(settings, OURS) == address


@pytest.mark.parametrize(
    "url", ["", "hounsfield", "ftp://x/events", "https:///events", "https://a:b@x/events", f"{OURS}?token=x"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="without user, password or query"):
        endpoint(Settings(events_token=SecretStr("a-token-of-sixteen")), url)


def test_a_store_that_is_named_by_its_address_needs_no_token() -> None:
    assert endpoint(Settings(events_token=None, events_networks=["10.1.0.5"]), OURS) == OURS


def test_without_a_token_there_is_nothing_to_send_to() -> None:
    with pytest.raises(Invalid, match="HOUNSFIELD_EVENTS_TOKEN"):
        endpoint(Settings(events_token=None), OURS)
