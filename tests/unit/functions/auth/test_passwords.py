"""Which passwords are accepted, and how they are kept."""

import time
import unicodedata
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.auth.passwords.rules import MAX_BYTES, PasswordHasher, password_problem

HASHER = PasswordHasher(4)
passwords = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("seven 7", "at least 8 characters"),
        ("x" * 73, "longer than 72 bytes"),
        ("é" * 37, "longer than 72 bytes"),
        ("x" * 8 + "\u0315\u0300" * 50_000, "longer than 72 bytes"),
        ("password", "most common"),
        ("Iloveyou123", "most common"),
        ("Anna@Hospital.example", "own e-mail address or username"),
        ("ANNA-the-first", "own e-mail address or username"),
    ],
)
def test_a_poor_password_is_refused_with_the_reason(password: str, reason: str) -> None:
    problem = password_problem(password, "anna@hospital.example", "anna-the-first")
    assert problem is not None
    assert reason in problem


@pytest.mark.parametrize("password", ["eight ch", "x1" * 36, "é" * 36, "password of anna"])
def test_any_other_password_is_accepted(password: str) -> None:
    assert password_problem(password, "anna@hospital.example", "anna") is None


def test_the_list_of_common_passwords_holds_only_what_no_other_rule_refuses() -> None:
    listed = (files("functions.auth.passwords") / "common_passwords.txt").read_text("utf-8").split()
    assert len(listed) > 200
    assert len(set(listed)) == len(listed)
    assert all(len(word) >= 8 and word == word.casefold() for word in listed)


@settings(max_examples=30, deadline=None)
@given(password=passwords, more=st.characters(categories=["L", "N", "P"]))
def test_a_hash_matches_its_own_password_only(password: str, more: str) -> None:
    hashed = HASHER.hash(password)
    assert HASHER.matches(password, hashed)
    assert not HASHER.matches(password + more, hashed)


def test_a_hash_has_a_salt_of_its_own() -> None:
    assert HASHER.hash("a long passphrase") != HASHER.hash("a long passphrase")


def test_bytes_after_the_limit_are_not_ignored() -> None:
    assert not HASHER.matches("x" * (MAX_BYTES + 1), HASHER.hash("x" * MAX_BYTES))


@pytest.mark.parametrize("password", ["x" * 1_000_000, "x" * 8 + "\u0315\u0300" * 500_000])
def test_an_endless_password_costs_no_more_than_a_wrong_one(password: str) -> None:
    started = time.thread_time()
    assert not HASHER.matches(password, HASHER.hash("a long passphrase"))
    assert password_problem(password) is not None
    assert time.thread_time() - started < 2, "accents are sorted in quadratic time, here for hours"


def test_no_character_is_made_of_more_than_four() -> None:
    stable = (chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    composed = (c for c in stable if unicodedata.is_normalized("NFKC", c))
    assert max(len(unicodedata.normalize("NFKD", c)) for c in composed) == 4


def test_nobody_has_any_password() -> None:
    assert not HASHER.matches("a long passphrase", None)


@pytest.mark.parametrize(("cost_then", "highest"), [(5, None), (8, None), (9, 9), (5, 9)])
def test_nobody_takes_as_long_as_somebody(cost_then: int, highest: int | None) -> None:
    hasher = PasswordHasher(8, highest)
    hashed = PasswordHasher(cost_then).hash("a long passphrase")

    def seconds(kept: str | None) -> float:
        started = time.thread_time()
        hasher.matches("another passphrase", kept)
        return time.thread_time() - started

    somebody = min(seconds(hashed) for _ in range(7))
    nobody = min(seconds(None) for _ in range(7))
    assert nobody == pytest.approx(somebody, rel=0.5)


def test_a_hash_of_another_cost_is_outdated_and_still_good() -> None:
    kept = PasswordHasher(5).hash("a long passphrase")
    assert HASHER.is_outdated(kept)
    assert HASHER.matches("a long passphrase", kept)
    assert not HASHER.is_outdated(HASHER.hash("a long passphrase"))
