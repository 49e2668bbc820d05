"""Roles by a provider's claim."""

import pytest

from functions.auth.oidc.people import role_of
from shared.db.models import Role
from shared.errors import Unavailable

ROLES = {"imaging": "radiologist", "it": "admin", "lab": "pathologist"}


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"groups": ["imaging"]}, Role.RADIOLOGIST),
        ({"groups": "lab"}, Role.PATHOLOGIST),
        ({"groups": ["lab", "it", "imaging"]}, Role.ADMIN),
        ({"groups": ["canteen"]}, Role.USER),
        ({"groups": [["it"], {"it": 1}, None, 7]}, Role.USER),
        ({"groups": {"it": True}}, Role.USER),
        ({}, Role.USER),
    ],
)
def test_the_claim_gives_the_most_powerful_of_its_roles(claims: dict[str, object], role: Role) -> None:
    assert role_of(claims, "groups", ROLES) is role


def test_without_a_claim_the_provider_gives_no_role() -> None:
    assert role_of({"groups": ["it"]}, None, ROLES) is None


def test_an_unknown_role_in_the_settings_is_told() -> None:
    with pytest.raises(Unavailable, match="root"):
        role_of({}, "groups", {"it": "root"})
