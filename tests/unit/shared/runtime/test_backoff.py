from datetime import timedelta

import pytest

from shared.runtime.backoff import Backoff

POLICY = Backoff(base=timedelta(seconds=1), cap=timedelta(seconds=60), max_attempts=5)


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (7, 60), (500, 60)])
def test_the_delay_doubles_up_to_its_cap(attempt: int, seconds: float) -> None:
    assert POLICY.delay(attempt, random_unit=1) == timedelta(seconds=seconds)


def test_jitter_takes_at_most_half_of_the_delay_away() -> None:
    assert POLICY.delay(3, random_unit=0) == timedelta(seconds=2)
    assert all(timedelta(seconds=2) <= POLICY.delay(3) <= timedelta(seconds=4) for _ in range(200))


def test_tries_are_exhausted_at_the_limit() -> None:
    assert not POLICY.exhausted(4)
    assert POLICY.exhausted(5)
