"""Which lists of parts complete an upload."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.storage.parts import bare_etag, match_parts
from shared.storage.port import Part, PartMismatch

RECEIVED = st.lists(st.integers(1, 10_000), min_size=1, max_size=6, unique=True).map(
    lambda numbers: [Part(number, f"etag{number}", number) for number in sorted(numbers)]
)


@given(received=RECEIVED)
def test_all_received_parts_in_order_match(received: list[Part]) -> None:
    quoted = [Part(part.number, f'"{part.etag}"', part.size) for part in received]
    assert match_parts(quoted, received) == received


@given(received=RECEIVED, data=st.data())
def test_any_other_selection_or_order_does_not(received: list[Part], data: st.DataObject) -> None:
    named = data.draw(st.lists(st.sampled_from(received)).filter(lambda parts: parts != received))
    with pytest.raises(PartMismatch):
        match_parts(named, received)


def test_the_message_says_which_part_is_wrong() -> None:
    received = [Part(1, "a", 5), Part(2, "b", 5)]
    with pytest.raises(PartMismatch, match="Part 2 was received with another ETag"):
        match_parts([received[0], Part(2, "c", 5)], received)
    with pytest.raises(PartMismatch, match="Part 2 has 5 bytes, not 6"):
        match_parts([received[0], Part(2, "b", 6)], received)


@pytest.mark.parametrize(("etag", "bare"), [('"ab"', "ab"), ("ab", "ab"), ('"ab-2"', "ab-2")])
def test_quotes_around_an_etag_are_no_part_of_it(etag: str, bare: str) -> None:
    assert bare_etag(etag) == bare
