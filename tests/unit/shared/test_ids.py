from shared.ids import uuid7


def test_ids_are_version_7_and_of_the_rfc_variant() -> None:
    made = [uuid7() for _ in range(1000)]
    assert {value.version for value in made} == {7}
    assert {value.variant for value in made} == {"specified in RFC 4122"}
    assert len(set(made)) == 1000


def test_ids_sort_by_the_millisecond_they_were_made_in() -> None:
    made = [uuid7() for _ in range(1000)]
    stamps = [value.int >> 80 for value in made]
    assert stamps == sorted(stamps)
