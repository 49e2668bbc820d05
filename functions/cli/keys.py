"""`hounsfield keys …`: what docs/keys.md tells of."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from subprocess import SubprocessError
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from functions.cli.helpers import (
    DataDir,
    err,
    open_database,
    open_services,
    out,
    require_database,
    settings_with,
)
from functions.printing import MENDABLE, explain, one_line, safe
from shared.config import Settings

if TYPE_CHECKING:
    from shared.runtime import Services
    from shared.security.keys import KeyStore
    from shared.security.rings import Ring, RingKey

app = typer.Typer(help="Keys that sign tokens, seal names and chain the audit log.", no_args_is_help=True)
KeysDir = Annotated[Path | None, typer.Option(help="folder of the keys [HOUNSFIELD_KEYS_DIR]")]


class Rotated(StrEnum):
    """What `rotate` takes."""

    SIGNING = "signing"
    NAMES = "names"
    AUDIT = "audit"
    ROOT = "root"
    ALL = "all"


@app.command("list")
def list_keys(keys_dir: KeysDir = None, data_dir: DataDir = None) -> None:
    """List every key: its ring, what it is known by, since when it is used."""
    from shared.security.keys import KeyStore

    store = KeyStore(settings_with(keys_dir=keys_dir, data_dir=data_dir))
    rows = [row for ring in store.rings for row in _rows(ring)]
    if out.is_terminal:
        table = Table("ring", "key", "state", "file")
        for row in rows:
            table.add_row(*map(safe, row))
        out.print(table)
        return
    for row in rows:
        out.file.write("\t".join(map(one_line, row)) + "\n")


@app.command()
def rotate(
    ring: Annotated[Rotated, typer.Argument(help="which key to replace")] = Rotated.SIGNING,
    after: Annotated[
        int,
        typer.Option(
            metavar="MINUTES",
            min=0,
            max=7 * 24 * 60,
            help="use it so much later, a week at most: time for every process to learn of it",
        ),
    ] = 0,
    keys_dir: KeysDir = None,
    data_dir: DataDir = None,
) -> None:
    """Add a new key, used from now on; what the older ones signed and sealed stays good."""
    from shared.security.keys import KeyStore

    settings = settings_with(keys_dir=keys_dir, data_dir=data_dir)
    store = KeyStore(settings)
    # The root is part of a whole folder, but it is replaced only when asked for by name.
    every = [one.name for one in store.rings if one.name != "root" or not one.kept()]
    made = store.rotate(*(every if ring is Rotated.ALL else [ring.value]), after=timedelta(minutes=after))
    for key in made:
        line = f"made {store.folder.path / key.file.name}, used from {_minute(key)}"
        out.print(safe(line), highlight=False, soft_wrap=True)
    try:
        _record_rotation(settings, store, made)
    except (*MENDABLE, SubprocessError) as error:
        # A leaked key must be replaced even where the database is away.
        why = "; ".join(explain(error))
        err.print(f"[yellow]not in the audit log:[/] {safe(why)}", highlight=False, soft_wrap=True)


@app.command()
def reseal(keys_dir: KeysDir = None, data_dir: DataDir = None) -> None:
    """Seal every name of a patient or file with the newest key; may run beside functions, and again after a stop."""
    from functions.auth.accounts.service import COMMAND_LINE
    from shared.security.ring_upkeep import reseal

    count, broken = 0, 0
    with _services(keys_dir, data_dir) as services:
        for batch in reseal(services, COMMAND_LINE):
            count += batch.count
            broken += len(batch.broken)
            for row_id in batch.broken:
                err.print(f"{batch.kind} {row_id}: no key opens the name", highlight=False)
    out.print(
        f"{count} {'name' if count == 1 else 'names'} sealed anew"
        + (f", {broken} left as they were" if broken else "")
    )
    if broken:
        raise typer.Exit(1)


@app.command()
def retire(
    key: Annotated[str | None, typer.Argument(help="one key; all that nothing needs when not given")] = None,
    keys_dir: KeysDir = None,
    data_dir: DataDir = None,
) -> None:
    """Remove keys that nothing needs any more; audit keys are kept for ever."""
    from functions.auth.accounts.service import COMMAND_LINE
    from shared.security.ring_upkeep import retire

    with _services(keys_dir, data_dir) as services:
        for old in retire(services, COMMAND_LINE, key):
            fate = "removed" if old.needed is None else f"stays: {old.needed}"
            out.print(safe(f"{old.ring} {old.id}: {fate}"), highlight=False, soft_wrap=True)


@contextmanager
def _services(keys_dir: Path | None, data_dir: Path | None) -> Iterator["Services"]:
    settings = settings_with(keys_dir=keys_dir, data_dir=data_dir)
    require_database(settings)
    with open_services(settings) as services:
        yield services


def _record_rotation(settings: Settings, store: "KeyStore", made: "Sequence[RingKey[Any]]") -> None:
    from functions.auth.accounts.service import COMMAND_LINE
    from shared.db.session import Database
    from shared.security.ring_log import record

    require_database(settings)
    with open_database(settings) as url, closing(Database(url)) as database:
        changed = [(key.file.ring, key.id) for key in made]
        record(database, store.audit_ring, COMMAND_LINE, "keys.rotate", changed)


def _rows(ring: "Ring[Any]") -> Iterable[tuple[str, str, str, str]]:
    states = {key.id: "kept" for key, _ in ring.old()}
    states |= {key.id: f"used from {_minute(key)}" for key in ring.waiting()}
    for key in ring.kept():
        yield ring.name, key.id, states.get(key.id, "used"), key.file.name


def _minute(key: "RingKey[Any]") -> str:
    return f"{key.file.begins:%Y-%m-%d %H:%M} UTC"
