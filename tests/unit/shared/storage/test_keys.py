"""Which keys, prefixes, buckets and lifetimes are accepted. The contract suite holds the adapters to it."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Invalid
from shared.storage.keys import check_bucket, check_expiry, check_key, check_prefix, is_key


@given(st.text())
def test_an_accepted_key_cannot_leave_its_bucket(key: str) -> None:
    if is_key(key):
        segments = check_key("incoming", key)
        assert "/".join(segments) == key
        assert not {"", ".", ".."} & set(segments)
        assert len(key.encode()) <= 1024


@pytest.mark.parametrize("key", ["a", ".hidden", "...", "a.b/..c", " ", "ü/日本", "a" * 255, "a+b%2F?#"])
def test_odd_but_harmless_names_are_keys(key: str) -> None:
    assert is_key(key)


@pytest.mark.parametrize("key", ["a\u0085b", "a\rb", "a\tb", "C:\\a", "é" * 128])
def test_control_characters_backslashes_and_long_segments_are_refused(key: str) -> None:
    assert not is_key(key)


@pytest.mark.parametrize(
    ("prefix", "folders"), [("", []), ("ab", []), ("a/", ["a"]), ("a/b/c", ["a", "b"]), ("a/..", ["a"])]
)
def test_a_prefix_ends_in_whole_folders_or_in_part_of_a_name(prefix: str, folders: list[str]) -> None:
    assert check_prefix("studies", prefix) == folders


def test_there_are_three_buckets() -> None:
    for bucket in ("incoming", "studies", "models"):
        check_bucket(bucket)
    for bucket in ("", "../studies", "other"):
        with pytest.raises(Invalid, match="incoming, studies, models"):
            check_bucket(bucket)


def test_a_lifetime_is_in_whole_seconds() -> None:
    assert check_expiry(timedelta(minutes=5, milliseconds=900)) == 300
    with pytest.raises(Invalid):
        check_expiry(timedelta(milliseconds=900))
