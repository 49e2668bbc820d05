from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.client.retries import Patience, Waiting


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def waiting(clock: Clock, chance: float = 1, **patience: float) -> Waiting:
    return Waiting(Patience(**patience), clock, lambda: chance)


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 409, 413, 422])
def test_an_answer_that_would_be_the_same_again_is_not_asked_for_again(status: int) -> None:
    assert waiting(Clock()).pause(status) is None


@pytest.mark.parametrize("status", [None, 408, 429, 502, 503, 504])
def test_a_server_that_is_away_is_waited_for_as_long_as_patience_lasts(status: int | None) -> None:
    clock = Clock()
    tries = waiting(clock, seconds=60, first=1, cap=8)
    pauses = []
    while (pause := tries.pause(status)) is not None:
        pauses.append(pause)
        clock.now += pause
    assert pauses == [1, 2, 4, 8, 8, 8, 8, 8, 8]
    assert clock.now - 1000 <= 60 < clock.now - 1000 + 8


def test_other_errors_of_the_server_are_tried_a_few_times_only() -> None:
    tries = waiting(Clock())
    assert [tries.pause(500) is None for _ in range(4)] == [False, False, False, True]


@given(chance=st.floats(0, 1, exclude_max=True), failures=st.integers(1, 2000))
def test_half_of_each_delay_is_left_to_chance(chance: float, failures: int) -> None:
    tries = waiting(Clock(), chance, seconds=1e9, first=0.5, cap=30)
    pauses = [tries.pause(503) for _ in range(failures)]
    full = min(30, 0.5 * 2 ** min(failures - 1, 30))
    assert pauses[-1] is not None
    assert full / 2 <= pauses[-1] <= full


def test_the_server_may_ask_for_a_longer_pause() -> None:
    assert waiting(Clock()).pause(429, "7") == 7
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    pause = waiting(Clock()).pause(503, later)
    assert pause is not None
    assert 95 < pause <= 100
    assert waiting(Clock(), first=1).pause(503, "soon") == 1
    assert waiting(Clock(), seconds=600).pause(503, "601") is None


def test_a_conflict_with_our_own_first_try_passes() -> None:
    assert waiting(Clock(), first=0.1).pause(409, "1") == 1
    assert waiting(Clock()).pause(409) is None
