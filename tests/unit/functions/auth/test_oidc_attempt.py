"""Attempts in their cookie."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.auth.oidc.attempt import LIFE_SECONDS, PATH, Attempt, Seal
from shared.errors import BadRequest


def test_an_attempt_comes_back_as_it_went() -> None:
    attempt = Attempt.begin("/viewer/1")
    assert Seal(lambda: [b"secret"]).open(Seal(lambda: [b"secret"]).close(attempt)) == attempt


def test_it_is_good_for_ten_minutes() -> None:
    now = 1000.0
    seal = Seal(lambda: [b"secret"], lambda: now)
    cookie = seal.close(Attempt.begin("/"))
    now += LIFE_SECONDS
    seal.open(cookie)
    now += 1
    with pytest.raises(BadRequest, match="ten minutes"):
        seal.open(cookie)


@given(st.data())
def test_one_changed_character_breaks_the_seal(data: st.DataObject) -> None:
    cookie = Seal(lambda: [b"secret"]).close(Attempt.begin("/"))
    place = data.draw(st.integers(0, len(cookie) - 1))
    other = data.draw(st.characters().filter(lambda character: character != cookie[place]))
    with pytest.raises(BadRequest):
        Seal(lambda: [b"secret"]).open(cookie[:place] + other + cookie[place + 1 :])


@pytest.mark.parametrize("cookie", [None, "", ".", "a.b", "ü.ü"])
def test_what_is_no_attempt_is_refused(cookie: str | None) -> None:
    with pytest.raises(BadRequest, match="start again"):
        Seal(lambda: [b"secret"]).open(cookie)


def test_another_deployment_s_attempt_is_refused() -> None:
    with pytest.raises(BadRequest):
        Seal(lambda: [b"secret"]).open(Seal(lambda: [b"another"]).close(Attempt.begin("/")))


@given(st.from_regex(PATH, fullmatch=True))
def test_a_path_to_go_to_never_names_a_host(path: str) -> None:
    assert path.startswith("/") and not re.match(r"/[/\\]", path) and path.isascii() and path.isprintable()


def test_one_begun_before_the_key_was_changed_can_be_finished() -> None:
    attempt = Attempt.begin("/")
    assert Seal(lambda: [b"new", b"old"]).open(Seal(lambda: [b"old"]).close(attempt)) == attempt
