"""`hounsfield chores …`: what `hounsfield up` does again and again, for schedulers of clusters."""

from typing import Annotated

import typer
from rich.table import Table

from functions.cli.helpers import DataDir, open_services, out, require_database, settings_with

app = typer.Typer(help="What is done again and again: cleaning, sweeping, closing.", no_args_is_help=True)


@app.command("list")
def list_chores() -> None:
    """List every chore and how often `hounsfield up` does it."""
    from functions.chores import chores_of
    from functions.host import load_functions

    settings = settings_with()
    table = Table("chore", "every")
    for name, chore in chores_of(load_functions()).items():
        table.add_row(name, f"{chore.seconds(settings):g} s")
    out.print(table)


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="as `hounsfield chores list` calls it")],
    data_dir: DataDir = None,
) -> None:
    """Do one chore once; says how much there was to do."""
    from functions.chores import chores_of
    from functions.host import load_functions

    known = chores_of(load_functions())
    if name not in known:
        raise typer.BadParameter(f"no chore {name!r}; there are: {', '.join(known)}", param_hint="NAME")
    settings = settings_with(data_dir=data_dir)
    require_database(settings)
    with open_services(settings) as services:
        out.print(f"{name}: {known[name].run(services)}", highlight=False)
