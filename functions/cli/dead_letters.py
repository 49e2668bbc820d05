"""`hounsfield dead-letters …`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import typer

from functions.cli.helpers import DataDir, open_database, out, require_database, settings_with
from functions.printing import show_letters

if TYPE_CHECKING:
    from shared.runtime.bus import DeadLetters

app = typer.Typer(help="Events that a function gave up on.", no_args_is_help=True)


@app.command("list")
def list_letters(data_dir: DataDir = None) -> None:
    """List dead letters, newest first."""
    with _open(data_dir) as dead:
        show_letters(out, dead.list())


@app.command()
def show(id: UUID, data_dir: DataDir = None) -> None:
    """Show one dead letter whole."""
    with _open(data_dir) as dead:
        letter = dead.get(id)
        out.print_json(
            data={
                "id": str(letter.id),
                "function": letter.function,
                "attempts": letter.attempts,
                "error": letter.error,
                "traceparent": letter.traceparent,
                "created_at": letter.created_at.isoformat(),
                "event": letter.envelope,
            }
        )


@app.command()
def replay(id: UUID, data_dir: DataDir = None) -> None:
    """Deliver the event to its function again."""
    with _open(data_dir) as dead:
        dead.replay(id)
    out.print("It will be delivered again.")


@app.command()
def discard(id: UUID, data_dir: DataDir = None) -> None:
    """Drop a dead letter; its event stays unhandled."""
    with _open(data_dir) as dead:
        dead.discard(id)
    out.print("Discarded.")


@contextmanager
def _open(data_dir: Path | None) -> Iterator["DeadLetters"]:
    from shared.db.session import Database
    from shared.runtime.postgres_bus import PostgresBus

    settings = settings_with(data_dir=data_dir)
    require_database(settings)
    with open_database(settings) as url:
        database = Database(url)
        try:
            yield PostgresBus(database).dead_letters
        finally:
            database.close()
