"""What a process gives the functions that it hosts."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from shared.config import Settings
from shared.db.session import Database
from shared.storage.port import Storage

T = TypeVar("T")


class Services:
    """Settings, database and storage, and anything else that a function makes once per process."""

    def __init__(self, settings: Settings, database: Database, storage: Storage) -> None:
        self.settings = settings
        self.database = database
        self.storage = storage
        self._made: dict[object, Any] = {}
        self._lock = threading.RLock()

    def once(self, factory: Callable[["Services"], T]) -> T:
        """What `factory(services)` made when first asked for; one instance per process."""
        with self._lock:
            if factory not in self._made:
                self._made[factory] = factory(self)
            return cast(T, self._made[factory])

    def close(self) -> None:
        """Close what was made, newest first, then the database."""
        for made in reversed(list(self._made.values())):
            close = getattr(made, "close", None)
            if callable(close):
                close()
        self._made.clear()
        self.database.close()
