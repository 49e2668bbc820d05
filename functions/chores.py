"""What is done again and again, on no event: run by `hounsfield up`, and one at a time by `hounsfield chores run`."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from shared.errors import HounsfieldError
from shared.runtime import Chore, Function, Services
from shared.runtime.postgres_bus import PostgresBus
from shared.security.audit_verify import log_heads

log = structlog.get_logger(__name__)

HOUR = 3600.0
OFTEN = 60.0
"""Seconds; a chore that comes more often than this is mentioned in the log only when it did something."""


def clean_events(services: Services) -> int:
    """Forget delivered events; returns how many."""
    keep = timedelta(hours=services.settings.keep_events_hours)
    return PostgresBus(services.database).clean(keep)


PLATFORM = (Chore("events", HOUR, clean_events), Chore("audit-heads", HOUR, log_heads))
"""Those of no function."""


def chores_of(functions: Sequence[Function]) -> dict[str, Chore]:
    """Every chore by its name. Raises ValueError where two have one name."""
    chores: dict[str, Chore] = {}
    for chore in (*PLATFORM, *(chore for function in functions for chore in function.chores)):
        if chore.name in chores:
            raise ValueError(f"two chores are called {chore.name}")
        chores[chore.name] = chore
    return chores


@contextmanager
def running(functions: Sequence[Function], services: Services) -> Iterator[None]:
    """Do every chore when it is due while the block runs, each in a thread of its own: a long one delays no other."""
    over = threading.Event()
    threads = [
        threading.Thread(target=_repeat, args=(chore, services, over), name=f"chore-{name}", daemon=True)
        for name, chore in chores_of(functions).items()
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _repeat(chore: Chore, services: Services, over: threading.Event) -> None:
    seconds = chore.seconds(services.settings)
    if over.wait(0 if chore.at_start else seconds):
        return
    while True:
        try:
            count = chore.run(services)
            if count or seconds >= OFTEN:
                log.info("chore done", chore=chore.name, count=count)
        except (SQLAlchemyError, HounsfieldError, OSError) as error:  # it will be there the next time
            log.warning("chore not done", chore=chore.name, error=type(error).__name__)
        if over.wait(seconds):
            return
