"""Hosts functions: their routes in one ASGI application, their events by one consumer each."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import import_module

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp

from functions.compat import ROUTES
from shared.http.app import create_api, harden
from shared.http.health import Readiness
from shared.runtime import Bus, Consumer, Function, Services
from shared.security.revocations import revocations

log = structlog.get_logger(__name__)

FUNCTIONS = ("auth", "upload", "ingest", "dicom", "studies", "tiling", "inference", "reporting")


def load_functions(names: Sequence[str] = FUNCTIONS) -> list[Function]:
    """Import functions by name; only these, so that each process needs only its own extra."""
    unknown = set(names) - set(FUNCTIONS)
    if unknown:
        raise ValueError(f"unknown functions: {', '.join(sorted(unknown))}; known: {', '.join(FUNCTIONS)}")
    loaded: list[Function] = [import_module(f"functions.{name}").function for name in names]
    return loaded


class Host:
    """A set of functions in this process."""

    def __init__(
        self,
        functions: Sequence[Function],
        services: Services,
        bus: Bus,
        readiness: Readiness,
        concurrency: int = 1,
    ) -> None:
        self._services = services
        self._functions = functions
        self._beside = ExitStack()
        self.consumers: list[Consumer] = [
            bus.consumer(function, services, concurrency) for function in functions if function.handlers
        ]
        checks = {**readiness, "events": lambda: all(consumer.healthy for consumer in self.consumers)}
        self.api: FastAPI = create_api(functions, services, checks)

    @property
    def app(self) -> ASGIApp:
        """The application to serve."""
        return harden(self.api, self._services, ROUTES)

    def start(self) -> None:
        """Begin to handle events, to heed access tokens that are called back elsewhere, and what runs beside."""
        self._services.once(revocations).start()
        for consumer in self.consumers:
            consumer.start()
        with ExitStack() as beside:
            for function in self._functions:
                for companion in function.companions:
                    beside.enter_context(companion(self._services))
            self._beside = beside.pop_all()

    def stop(self, seconds: float) -> bool:
        """Drain: take up nothing new, wait for what runs; False when something still ran at the end."""
        self._beside.close()
        for consumer in self.consumers:
            consumer.begin_stop()
        deadline = time.monotonic() + seconds
        drained = [consumer.stop(max(0.0, deadline - time.monotonic())) for consumer in self.consumers]
        if not all(drained):
            log.warning("stopped with work in hand; it will be delivered again")
        return all(drained)
