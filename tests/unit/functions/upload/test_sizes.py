"""How an upload is cut into parts, and how large it may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.upload.parts.sizes import (
    CHOSEN_PARTS,
    MIN_PART_BYTES,
    bytes_of_part,
    check_size,
    count_parts,
    part_size,
)
from shared.config import Settings
from shared.errors import Invalid, TooLarge
from shared.storage.parts import MAX_PARTS

MIB = 1 << 20
SIZES = st.integers(1, 50 << 30)


@given(SIZES, st.integers(MIN_PART_BYTES, 1 << 30))
def test_the_parts_make_the_whole(size: int, part_bytes: int) -> None:
    count = count_parts(size, part_bytes)
    first, last = bytes_of_part(size, part_bytes, 1), bytes_of_part(size, part_bytes, count)
    assert (count - 1) * part_bytes + last == size
    assert 1 <= last <= part_bytes
    assert first == min(size, part_bytes)


@given(SIZES)
def test_what_is_left_to_us_has_few_parts_and_no_larger_ones_than_that_takes(size: int) -> None:
    chosen = part_size(size)
    assert count_parts(size, chosen) <= CHOSEN_PARTS
    assert chosen == 16 * MIB or count_parts(size, chosen // 2) > CHOSEN_PARTS


@given(SIZES, st.integers(MIN_PART_BYTES, 1 << 30))
def test_what_is_asked_for_is_taken_or_refused_with_what_would_be_right(size: int, asked: int) -> None:
    if count_parts(size, asked) <= MAX_PARTS:
        assert part_size(size, asked) == asked
        return
    with pytest.raises(Invalid, match="or more") as refused:
        part_size(size, asked)
    advised = int(refused.value.detail.rpartition("give ")[2].removesuffix(" or more").replace(",", ""))
    assert count_parts(size, advised) <= MAX_PARTS < count_parts(size, advised - 1)


@pytest.mark.parametrize(
    ("size", "kind"),
    [(1, None), (1, "oct"), (1 << 30, None), (1 << 30, "ct"), (1 << 20, "slide"), (50 << 30, "slide")],
)
def test_sizes_up_to_the_limits_are_taken(size: int, kind: str | None) -> None:
    check_size(Settings(), size, kind)


@pytest.mark.parametrize(
    ("size", "kind", "error"),
    [
        ((1 << 30) + 1, None, TooLarge),
        ((1 << 30) + 1, "brain-mri", TooLarge),
        ((50 << 30) + 1, "slide", TooLarge),
        ((1 << 20) - 1, "slide", Invalid),
    ],
)
def test_sizes_beyond_them_are_refused_with_the_limit(
    size: int, kind: str | None, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"1,073,741,824|53,687,091,200|1,048,576"):
        check_size(Settings(), size, kind)
