from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.client.parts import MOST_AT_ONCE, Part, Plan, missing_parts
from shared.client.results import Upload


def upload(size: int, part_bytes: int, received: dict[int, int] | None = None) -> Upload:
    return Upload("1", "open", size, part_bytes, received or {}, None)


@given(size=st.integers(1, 1000), part_bytes=st.integers(1, 100))
def test_parts_cover_the_file_once_and_in_order(size: int, part_bytes: int) -> None:
    parts = missing_parts(upload(size, part_bytes))
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert parts[0].offset == 0
    assert all(a.offset + a.size == b.offset for a, b in pairwise(parts))
    assert parts[-1].offset + parts[-1].size == size
    assert all(part.size == part_bytes for part in parts[:-1])


def test_a_part_that_was_received_whole_is_not_missing() -> None:
    received = {1: 10, 2: 7, 3: 5}
    assert missing_parts(upload(25, 10, received)) == [Part(2, 10, 10)]


@given(count=st.integers(0, 500), workers=st.integers(1, 64))
def test_workers_take_every_part_once_and_few_at_the_end(count: int, workers: int) -> None:
    parts = missing_parts(upload(count, 1)) if count else []
    plan = Plan(parts, workers, count)
    taken = []
    while batch := plan.take():
        assert len(batch) <= MOST_AT_ONCE
        taken.append(batch)
    assert [part for batch in taken for part in batch] == parts
    assert all(len(batch) == 1 for batch in taken[-2 * workers :])
    assert plan.reached == count


def test_nothing_missing_is_all_of_the_file_reached() -> None:
    """The hash of a file whose parts the store has already waits for nobody."""
    assert Plan([], 4, 1 << 40).reached == 1 << 40


def test_the_last_missing_part_may_lie_far_from_the_end() -> None:
    plan = Plan([Part(1, 0, 10)], 1, 1 << 40)
    assert (plan.reached, plan.take(), plan.reached) == (0, [Part(1, 0, 10)], 1 << 40)
