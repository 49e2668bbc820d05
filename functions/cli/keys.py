"""`hounsfield keys …`: what docs/keys.md tells of."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from functions.cli.helpers import DataDir, err, open_services, out, require_database, settings_with
from functions.printing import one_line, safe

if TYPE_CHECKING:
    from shared.runtime import Services
    from shared.security.rings import Ring, RingKey

app = typer.Typer(
    help="Keys that sign tokens, seal patient names and chain the audit log.", no_args_is_help=True
)
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
            metavar="MINUTES", min=0, help="use it so much later: time for every process to learn of it"
        ),
    ] = 0,
    keys_dir: KeysDir = None,
    data_dir: DataDir = None,
) -> None:
    """Add a new key, used from now on; what the older ones signed and sealed stays good."""
    from shared.security.keys import KeyStore

    store = KeyStore(settings_with(keys_dir=keys_dir, data_dir=data_dir))
    for one in store.rings:
        # The root is part of a whole folder, but it is replaced only when asked for by name.
        if ring in (one.name, Rotated.ALL) and not (ring == "all" and one.name == "root" and one.kept()):
            file = store.rotate(one.name, timedelta(minutes=after))
            out.print(safe(f"made {store.folder.path / file.name}"), highlight=False, soft_wrap=True)


@app.command()
def reseal(keys_dir: KeysDir = None, data_dir: DataDir = None) -> None:
    """Seal every patient name with the newest key; may run beside functions, and again after a stop."""
    from functions.auth.accounts.service import COMMAND_LINE
    from shared.security.ring_upkeep import reseal

    count, broken = 0, 0
    with _services(keys_dir, data_dir) as services:
        for batch in reseal(services, COMMAND_LINE):
            count += batch.count
            broken += len(batch.broken)
            for study_id in batch.broken:
                err.print(f"study {study_id}: no key opens its patient name", highlight=False)
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
    from shared.security.ring_upkeep import retire

    with _services(keys_dir, data_dir) as services:
        for old in retire(services, key):
            fate = "removed" if old.needed is None else f"stays: {old.needed}"
            out.print(safe(f"{old.ring} {old.id}: {fate}"), highlight=False, soft_wrap=True)


@contextmanager
def _services(keys_dir: Path | None, data_dir: Path | None) -> Iterator["Services"]:
    settings = settings_with(keys_dir=keys_dir, data_dir=data_dir)
    require_database(settings)
    with open_services(settings) as services:
        yield services


def _rows(ring: "Ring[Any]") -> Iterable[tuple[str, str, str, str]]:
    replaced = {key.id for key, _ in ring.old()}
    now = ring.now()
    for key in ring.kept():
        yield ring.name, key.id, _state(key, key.id in replaced, key.file.begins > now), key.file.name


def _state(key: "RingKey[Any]", replaced: bool, waiting: bool) -> str:
    if waiting:
        return f"used from {key.file.begins:%Y-%m-%d %H:%M} UTC"
    return "kept" if replaced else "used"
