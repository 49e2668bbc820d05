"""W3C Trace Context: one trace id from the request through events and model calls to the report."""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_FORM = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


def new_traceparent() -> str:
    """A fresh trace."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def current_traceparent() -> str | None:
    """The traceparent of the work at hand."""
    return _current.get()


@contextmanager
def traced(traceparent: str | None) -> Iterator[str]:
    """Do the block's work under a given trace, or under a new one where it is missing or malformed."""
    value = traceparent if traceparent and _FORM.fullmatch(traceparent) else new_traceparent()
    token = _current.set(value)
    try:
        yield value
    finally:
        _current.reset(token)
