"""What is fetched from the provider and kept."""

import pytest

from functions.auth.oidc.kept import FRESH_SECONDS, REST_SECONDS, Kept
from shared.errors import Unavailable


class Source:
    """Counts what is fetched, and is away at times."""

    def __init__(self) -> None:
        self.now, self.fetched, self.asked, self.away = 0.0, 0, 0, False
        self.kept = Kept(self.fetch, lambda: self.now)

    def fetch(self) -> int:
        self.asked += 1
        if self.away:
            raise Unavailable("away")
        self.fetched += 1
        return self.fetched


def test_it_is_fetched_once_an_hour() -> None:
    source = Source()
    assert [source.kept.get(), source.kept.get()] == [1, 1]
    source.now += FRESH_SECONDS
    assert source.kept.get() == 2


def test_it_can_be_renewed_before() -> None:
    source = Source()
    assert [source.kept.get(), source.kept.renew(), source.kept.get()] == [1, 2, 2]


def test_what_was_there_before_serves_while_the_source_is_away() -> None:
    source = Source()
    source.kept.get()
    source.now, source.away = FRESH_SECONDS, True
    assert [source.kept.get(), source.kept.get()] == [1, 1]
    assert source.asked == 2, "asked again once"
    source.now, source.away = source.now + REST_SECONDS, False
    assert source.kept.get() == 2


def test_a_failure_is_told_again_without_asking() -> None:
    source = Source()
    source.away = True
    for _ in range(3):
        with pytest.raises(Unavailable, match="away"):
            source.kept.get()
    assert source.asked == 1
    source.now, source.away = REST_SECONDS, False
    assert source.kept.get() == 1
