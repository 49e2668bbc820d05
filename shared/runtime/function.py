"""A function: a name, its routes, and what it does on which event. How it is hosted is no part of it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from shared.config import Settings
from shared.events.base import Event
from shared.runtime.services import Services
from shared.runtime.unit import UnitOfWork
from shared.runtime.work import LongWork

if TYPE_CHECKING:
    from fastapi import APIRouter

E = TypeVar("E", bound=Event)
OnDead = Callable[[Any, UnitOfWork, str], None]
Seconds = float | Callable[[Settings], float]


@dataclass(frozen=True)
class Handler:
    """What to do on one event type."""

    event: type[Event]
    run: Callable[[Any, Any], None]
    long: bool = False
    on_dead: OnDead | None = None


@dataclass(frozen=True)
class Chore:
    """What is done again and again, on no event. It may run in several processes at once, so it must bear that."""

    name: str
    every: Seconds
    run: Callable[[Services], int]
    """Does what there is to do now; returns how much that was."""
    at_start: bool = False
    """Whether it runs when the process starts, too."""

    def seconds(self, settings: Settings) -> float:
        """Seconds from the end of one run to the next."""
        return self.every(settings) if callable(self.every) else self.every


@dataclass
class Function:
    """One deployable function, and the name of its consumer group."""

    name: str
    router: "APIRouter | None" = None
    handlers: dict[type[Event], Handler] = field(default_factory=dict)
    chores: list[Chore] = field(default_factory=list)
    companions: list[Callable[[Services], AbstractContextManager[object]]] = field(default_factory=list)
    """What runs beside the function for as long as its process handles events, such as a listener on a port."""

    def on(
        self, event: type[E], *, on_dead: Callable[[E, UnitOfWork, str], None] | None = None
    ) -> Callable[[Callable[[E, UnitOfWork], None]], Callable[[E, UnitOfWork], None]]:
        """Declare a handler that runs inside one transaction.

        `on_dead(event, unit, error)` runs in the transaction that makes the event a dead letter, so that whoever
        waits for the result learns that none will come.
        """
        return self._register(event, on_dead, long=False)

    def on_long(
        self, event: type[E], *, on_dead: Callable[[E, UnitOfWork, str], None] | None = None
    ) -> Callable[[Callable[[E, LongWork], None]], Callable[[E, LongWork], None]]:
        """Declare a handler that runs for seconds to hours, outside a transaction, under a renewed lease."""
        return self._register(event, on_dead, long=True)

    def every(
        self, seconds: Seconds, name: str, *, at_start: bool = False
    ) -> Callable[[Callable[[Services], int]], Callable[[Services], int]]:
        """Declare a chore, run by `hounsfield up` and by `hounsfield chores run NAME`.

        seconds: a number, or a function of the settings.
        """

        def register(run: Callable[[Services], int]) -> Callable[[Services], int]:
            self.chores.append(Chore(name, seconds, run, at_start))
            return run

        return register

    def beside(
        self, companion: Callable[[Services], AbstractContextManager[object]]
    ) -> Callable[[Services], AbstractContextManager[object]]:
        """Declare what runs beside the function: it is entered when the process starts to work and left when it stops.

        One that the settings turn off is an empty context.
        """
        self.companions.append(companion)
        return companion

    def _register(self, event: type[E], on_dead: OnDead | None, *, long: bool) -> Callable[[Any], Any]:
        if event in self.handlers:
            raise ValueError(f"function {self.name} already handles {event.type}")

        def register(run: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
            self.handlers[event] = Handler(event, run, long, on_dead)
            return run

        return register

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic that this function reads."""
        return tuple(dict.fromkeys(topic for event in self.handlers for topic in event.topics))

    def lanes(self) -> list[tuple[str, ...]]:
        """Topics that may be worked on side by side: all short work in one lane, each topic of long work in its own."""
        long = {topic for handler in self.handlers.values() if handler.long for topic in handler.event.topics}
        short = tuple(topic for topic in self.topics if topic not in long)
        return ([short] if short else []) + [(topic,) for topic in self.topics if topic in long]
