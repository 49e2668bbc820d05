"""Text that PostgreSQL and UTF-8 can hold."""

from typing import Any


def has_utf8(text: str) -> bool:
    """Whether it is without lone surrogates, which JSON lets through (`\\ud800`) and UTF-8 has no bytes for."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def is_storable(text: str) -> bool:
    """Whether PostgreSQL takes it: UTF-8 without NUL."""
    return "\0" not in text and has_utf8(text)


def all_storable(value: Any) -> bool:
    """Whether every string in a JSON value is; keys too."""
    match value:
        case str():
            return is_storable(value)
        case dict():
            return all(all_storable(key) and all_storable(item) for key, item in value.items())
        case list() | tuple():
            return all(map(all_storable, value))
    return True
