"""Tracebacks that may be logged: where it happened and what kind of error it was, never what a database quoted."""

import traceback
from types import TracebackType
from typing import TextIO

from pydantic import ValidationError

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_QUOTING = {"sqlalchemy.exc.StatementError", "psycopg2.Error"}
"""Their text holds the statement, its parameters, or the row: `Key (name)=(…) already exists`. Known by name, because
model servers have neither package."""


def safe_traceback(exc_info: ExcInfo) -> str:
    """The traceback as Python prints it, chained errors and groups too; errors that quote data lose their text."""
    return _whole(exc_info[1], set())


def write_traceback(out: TextIO, exc_info: ExcInfo) -> None:
    """The same, as structlog's console wants it."""
    out.write("\n" + safe_traceback(exc_info))


def _whole(error: BaseException, seen: set[int]) -> str:
    seen.add(id(error))
    parts = []
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        led = "directly caused" if error.__cause__ else "was being handled when there came"
        parts.append(f"{_whole(before, seen)}\n\nThe above error {led} the following one:\n\n")
    if error.__traceback__ is not None:
        parts += ["Traceback (most recent call last):\n", *traceback.format_tb(error.__traceback__)]
    parts.append(_said(error))
    if isinstance(error, BaseExceptionGroup):
        parts += [f"\n--- one of the group:\n{_whole(one, seen)}" for one in error.exceptions]
    return "".join(parts)


def _said(error: BaseException) -> str:
    """The last line: type and text."""
    kind = type(error)
    if _QUOTING & {f"{cls.__module__}.{cls.__qualname__}" for cls in kind.__mro__}:
        driver = getattr(error, "orig", None) or error
        code = getattr(driver, "pgcode", None)
        return (
            f"{kind.__module__}.{kind.__qualname__} ({type(driver).__name__}, SQLSTATE {code}); text left out"
        )
    if isinstance(error, ValidationError):  # its own text shows the input
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['type']}" for item in error.errors())
        return f"pydantic.ValidationError: {error.title}: {wrong}"
    return "".join(traceback.format_exception_only(kind, error)).rstrip("\n")
