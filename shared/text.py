"""Text that PostgreSQL and UTF-8 can hold."""

from typing import Any


def is_storable(text: str) -> bool:
    """Whether it is without NUL, which PostgreSQL refuses, and lone surrogates, which JSON lets through (`\\ud800`)."""
    return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text)


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
