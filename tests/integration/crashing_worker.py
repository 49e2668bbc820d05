"""A worker that kills itself: `python -m tests.integration.crashing_worker DATABASE_URL OBJECTS MODEL_URL WHEN N`.

Hosts ingest, inference and reporting. At the N-th short transaction of long work it sends itself SIGKILL, right
BEFORE or right AFTER the commit. N = 0: never; it then works until it is stopped.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from functions.host import load_functions
from shared.config import Settings
from shared.db.session import Database
from shared.runtime import LongWork, Services, UnitOfWork
from shared.runtime.postgres_bus import PostgresBus
from shared.storage.folder import FolderStorage
from shared.storage.signing import UrlSigner

FUNCTIONS = ("ingest", "inference", "reporting")


def arm(when: str, number: int) -> None:
    """Replace LongWork's units by ones that count and kill."""
    count = 0

    def lethal(name: str) -> None:
        original = getattr(LongWork, name)

        @contextmanager
        def unit(self: LongWork) -> Iterator[UnitOfWork]:
            nonlocal count
            count += 1
            with original(self) as inner:
                yield inner
                if (when, number) == ("before", count):
                    os.kill(os.getpid(), signal.SIGKILL)
            if (when, number) == ("after", count):
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(LongWork, name, unit)

    lethal("unit")
    lethal("final_unit")


def main() -> None:
    """Serve until killed or stopped."""
    database_url, objects, model_url, when, number = sys.argv[1:]
    arm(when, int(number))
    settings = Settings(model_url=model_url, max_crashes=1000)
    storage = FolderStorage(Path(objects), UrlSigner(b"unused"), "http://127.0.0.1")
    services = Services(settings, Database(database_url), storage)
    bus = PostgresBus(services.database)
    for function in load_functions(FUNCTIONS):
        bus.consumer(function, services).start()
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()
