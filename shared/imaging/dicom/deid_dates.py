"""Dates, times and ages as DICOM writes them (PS3.5 §6.2), moved by whole days; b"" where one cannot be read."""

import re
from collections.abc import Callable
from datetime import date, timedelta

_DATE = re.compile(r"(\d{4})([.-]?)(\d{2})\2(\d{2})")
"""YYYYMMDD, and with the points of ACR-NEMA or the dashes that some systems put in."""
_TIME = re.compile(r"([01]\d|2[0-3])(?:(:?)[0-5]\d(?:\2(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?")
_DATETIME = re.compile(
    r"(\d{4})(\d{2})?(\d{2})?((?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d|60)?)?(?:\.\d{1,6})?)?([+-]\d{4})?"
)
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}
OLDEST_YEARS = 89
"""Older people are few enough to be found by their age (45 CFR 164.514); they are all said to be 90."""


def shift_dates(value: bytes, days: int) -> bytes:
    """One DA value or more."""
    return _each(value, lambda text: _shift_date(text, days))


def shift_datetimes(value: bytes, days: int) -> bytes:
    """One DT value or more; what is not stated (the day, say) is not stated afterwards."""
    return _each(value, lambda text: _shift_datetime(text, days))


def checked_times(value: bytes) -> bytes:
    """One TM value or more, as it is."""
    return _each(value, lambda text: text if _TIME.fullmatch(text) else None)


def capped_age(value: bytes) -> bytes:
    """An AS value; 090Y for anyone older than 89."""
    found = _AGE.fullmatch(_text(value))
    if found is None:
        return b""
    number, unit = int(found[1]), found[2]
    return b"090Y" if number / _PER_YEAR[unit] > OLDEST_YEARS else f"{number:03d}{unit}".encode()


def _each(value: bytes, change: Callable[[str], str | None]) -> bytes:
    """Each of the values changed; nothing is left of any where one cannot be read."""
    changed = [change(part.strip()) if part.strip() else "" for part in _text(value).split("\\")]
    return b"" if None in changed else "\\".join(part for part in changed if part is not None).encode()


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip(" \0")


def _shift_date(text: str, days: int) -> str | None:
    found = _DATE.fullmatch(text)
    return None if found is None else _moved(int(found[1]), int(found[3]), int(found[4]), days)


def _shift_datetime(text: str, days: int) -> str | None:
    found = _DATETIME.fullmatch(text)
    if found is None or (found[4] and not found[3]):
        return None
    year, month, day, time, offset = found.groups()
    moved = _moved(int(year), int(month or 1), int(day or 1), days)
    if moved is None:
        return None
    stated = 8 if day else 6 if month else 4
    return moved[:stated] + (time or "") + (offset or "")


def _moved(year: int, month: int, day: int, days: int) -> str | None:
    try:
        return (date(year, month, day) + timedelta(days)).strftime("%Y%m%d").rjust(8, "0")
    except (ValueError, OverflowError):
        return None
