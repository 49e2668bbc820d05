"""Every event type, by its CloudEvents type."""

from shared.errors import Invalid
from shared.events import types
from shared.events.base import Event

PREFIX = "hounsfield."


class UnknownEvent(Invalid):
    """An event whose type nobody here knows."""

    slug, title = "unknown-event", "Unknown event type"


EVENTS: dict[str, type[Event]] = {
    PREFIX + cls.type: cls
    for cls in vars(types).values()
    if isinstance(cls, type) and issubclass(cls, Event) and "type" in vars(cls)
}


def event_class(type_: str) -> type[Event]:
    """The class of a CloudEvents type. Raises UnknownEvent."""
    try:
        return EVENTS[type_]
    except KeyError:
        raise UnknownEvent(f"unknown event type {type_!r}; known: {', '.join(sorted(EVENTS))}") from None
