"""The policy table: what it does not allow is denied."""

import subprocess
import sys
from dataclasses import replace
from typing import cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.db.models.accounts import Role
from shared.errors import Forbidden
from shared.ids import uuid7
from shared.security.policy import (
    DEFAULT_SCOPES,
    GRANTABLE,
    MEANING,
    POLICY,
    Action,
    Reach,
    markdown,
    reach,
)
from shared.security.principal import Principal

ME, SOMEBODY = uuid7(), uuid7()
MY_TENANT = uuid7()
everyone = st.sampled_from(Role)
anything = st.sampled_from(Action)
scopes = st.frozensets(anything)
CLINICAL = sorted(set(Role) - {Role.ADMIN})


def principal(role: Role, scopes: frozenset[Action] | None = None) -> Principal:
    return Principal(ME, MY_TENANT, role, None, scopes)


def test_every_role_and_every_action_has_its_line() -> None:
    assert set(POLICY) == set(Role)
    assert set(MEANING) == set(Action)


def test_a_pair_that_the_table_does_not_name_is_denied() -> None:
    assert reach(Role.USER, Action.USERS) is Reach.NONE
    assert reach(cast(Role, "owner of everything"), Action.STUDIES_READ) is Reach.NONE


@pytest.mark.parametrize("role", CLINICAL)
def test_only_administrators_reach_beyond_what_is_their_own(role: Role) -> None:
    assert Reach.TENANT not in {reach(role, action) for action in Action}
    assert not principal(role).may(Action.STUDIES_READ, SOMEBODY)
    for action in (Action.USERS, Action.AUDIT_READ):
        with pytest.raises(Forbidden, match=f"the role {role} does not allow {action}"):
            principal(role).require(action)


def test_an_administrators_reach_is_the_tenant_but_for_other_peoples_accounts_and_keys() -> None:
    admin = principal(Role.ADMIN)
    own = {action for action in Action if admin.reach(action) is Reach.OWN}
    assert own == {Action.ACCOUNT_READ, Action.ACCOUNT_WRITE, Action.API_KEYS}
    assert admin.may(Action.STUDIES_READ, SOMEBODY)
    assert not admin.may(Action.ACCOUNT_WRITE, SOMEBODY)


@given(everyone, anything, st.sampled_from([ME, SOMEBODY]))
def test_whatever_is_allowed_to_others_things_is_allowed_to_ones_own(
    role: Role, action: Action, owner: UUID
) -> None:
    caller = principal(role)
    assert not caller.may(action, owner) or caller.may(action, ME)


@given(everyone, scopes, anything, st.sampled_from([ME, SOMEBODY]))
def test_an_api_key_may_what_its_maker_may_and_its_scopes_name_and_nothing_else(
    role: Role, scopes: frozenset[Action], action: Action, owner: UUID
) -> None:
    key = principal(role, scopes)
    assert key.may(action, owner) == (action in scopes and replace(key, scopes=None).may(action, owner))


@given(everyone, scopes, anything)
def test_require_refuses_exactly_where_nothing_is_in_reach(
    role: Role, scopes: frozenset[Action], action: Action
) -> None:
    key = principal(role, scopes)
    if key.reach(action) is not Reach.NONE:
        key.require(action)
        return
    with pytest.raises(Forbidden) as refusal:
        key.require(action)
    assert action in refusal.value.detail


def test_no_api_key_can_be_made_that_takes_over_an_account() -> None:
    assert {Action.ACCOUNT_WRITE, Action.API_KEYS, Action.USERS} & GRANTABLE == set()
    assert DEFAULT_SCOPES <= GRANTABLE
    assert Action.AUDIT_READ not in DEFAULT_SCOPES, "a key that is made without thought is no auditor's"


def test_the_documentation_prints_the_same_table() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "shared.security.policy"], capture_output=True, text=True, check=True
    ).stdout
    assert printed == markdown() + "\n"
    header, _, *lines = printed.splitlines()
    roles = [cell.strip() for cell in header.split("|")[2:-3]]
    assert roles == list(Role)
    words = {Reach.NONE: "–", Reach.OWN: "own", Reach.TENANT: "tenant"}
    table = {
        line.split("|")[1].strip(" `"): [cell.strip() for cell in line.split("|")[2:-3]] for line in lines
    }
    assert table == {action: [words[reach(role, action)] for role in Role] for action in Action}
