"""Dates and times of requests, as RFC 3339 writes them. Pydantic alone also takes numbers, as seconds since 1970; nobody
means that."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator
from pydantic_core import PydanticCustomError

_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = rf"{_DAY}[Tt][0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}([.][0-9]+)?([Zz]|[+-][0-9]{{2}}:[0-9]{{2}})"


def _written(pattern: str, code: str, message: str) -> Callable[[object], object]:
    """A check that text has this form; `message` tells what would be right."""

    def check(value: object) -> object:
        if isinstance(value, date) or (isinstance(value, str) and re.fullmatch(pattern, value)):
            return value
        raise PydanticCustomError(code, "{message}", {"message": message})

    return check


def _in_utc(value: datetime) -> datetime:
    """PostgreSQL takes no offset of 16 hours or more, and its driver gives back no time outside these years."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("time_range", "a time lies between the years 1 and 9999 in UTC") from None


_DAY_FORM = _written(_DAY, "date_form", "a date is written YYYY-MM-DD")
_TIME_FORM = _written(
    _TIME, "time_form", "a time is written 2026-01-31T12:00:00Z, or with +01:00 (in a URL %2B01:00)"
)

Day = Annotated[date, BeforeValidator(_DAY_FORM)]
Time = Annotated[AwareDatetime, BeforeValidator(_TIME_FORM), AfterValidator(_in_utc)]
"""A moment, in UTC."""
