from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from shared.ids import made_before, spelled_uuid, uuid7


def test_ids_are_version_7_and_of_the_rfc_variant() -> None:
    made = [uuid7() for _ in range(1000)]
    assert {value.version for value in made} == {7}
    assert {value.variant for value in made} == {"specified in RFC 4122"}
    assert len(set(made)) == 1000


def test_ids_sort_by_the_millisecond_they_were_made_in() -> None:
    made = [uuid7() for _ in range(1000)]
    stamps = [value.int >> 80 for value in made]
    assert stamps == sorted(stamps)


def test_an_id_tells_when_it_was_made() -> None:
    before, value, after = datetime.now(UTC), uuid7(), datetime.now(UTC)
    assert made_before(value, after + timedelta(milliseconds=1))
    assert not made_before(value, before - timedelta(milliseconds=1))
    assert not made_before(UUID("ffffffff-ffff-7fff-bfff-ffffffffffff"), after)  # the year 10889


@pytest.mark.parametrize(
    "spell", [str.upper, "{{{}}}".format, "urn:uuid:{}".format, lambda text: text.replace("-", "")]
)
def test_only_our_own_spelling_is_an_id(spell: Callable[[str], str]) -> None:
    value = uuid7()
    assert spelled_uuid(str(value)) == value
    assert spelled_uuid(spell(f"a{str(value)[1:]}")) is None
    assert spelled_uuid("notes") is None
