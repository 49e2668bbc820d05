"""`hounsfield up`, `demo`, `config`, `migrate`."""

import signal
from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from rich.table import Column, Table

from functions.cli.helpers import DataDir, open_database, out, settings_with
from functions.printing import database_errors, safe
from shared.config import Settings

app = typer.Typer()


@app.command()
def up(
    data_dir: DataDir = None,
    host: Annotated[str | None, typer.Option(help="address to bind [HOUNSFIELD_HOST]")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="port; 0 takes a free one [HOUNSFIELD_PORT]")
    ] = None,
) -> None:
    """Run everything on this machine until Ctrl-C."""
    from functions.local import LocalStack

    settings = settings_with(data_dir=data_dir, host=host, port=port)
    asked_to_end = _end_in_order()
    with database_errors(), LocalStack(settings) as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stack.stop())
        if asked_to_end.is_set():
            stack.stop()
        out.print(f"Hounsfield is at [bold]{stack.url}[/]  (API: {stack.url}/docs)", highlight=False)
        stack.wait()


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="leave it running afterwards, until Ctrl-C")] = False,
    output: Annotated[Path, typer.Option(help="where results are saved")] = Path("demo-output"),
    data_dir: Annotated[Path, typer.Option(help="folder of the demo's database and objects")] = Path(
        ".hounsfield-demo"
    ),
) -> None:
    """Start everything, send a brain MRI through the public API, show what was found."""
    from functions.demo import demo_settings, run_demo

    settings = demo_settings(data_dir)
    _end_in_order()
    with database_errors():
        run_demo(settings, output, keep, out)


@app.command()
def config() -> None:
    """Print every setting with its value and meaning."""
    settings = settings_with()
    longest = max(len(f"HOUNSFIELD_{name}") for name in Settings.model_fields)
    table = Table(Column("variable", min_width=longest), "value", "meaning", show_lines=False)
    for name, field in Settings.model_fields.items():
        row = (f"HOUNSFIELD_{name.upper()}", getattr(settings, name), field.description)
        table.add_row(*(safe(cell) for cell in row))
    out.print(table)


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to the newest schema."""
    from shared.db.migrations import upgrade

    with open_database(settings_with(data_dir=data_dir)) as url:
        upgrade(url)
    out.print("The database is up to date.")


def _end_in_order() -> Event:
    """Let SIGTERM end the program as Ctrl-C does, so that nothing that was started is left running.

    The event says that it came: Python drops what a handler raises while something is being finalised.
    """
    came = Event()

    def end(number: int, _: object) -> None:
        came.set()
        signal.signal(number, signal.SIG_IGN)  # once is enough: the cleaning up must not be cut short
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    return came
