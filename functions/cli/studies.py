"""`hounsfield studies …`: what a running Hounsfield holds."""

import json
from typing import Annotated

import typer
from rich.table import Table

from functions.cli.helpers import out
from functions.cli.server import connected
from functions.printing import one_line, safe
from shared.client import Client, Study

app = typer.Typer(help="Studies on a running Hounsfield.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="the study's id")]


@app.command("list")
@connected
def list_studies(
    client: Client,
    kind: Annotated[str | None, typer.Option(help="only studies of this kind")] = None,
    status: Annotated[str | None, typer.Option(help="only studies of this status")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="so many, newest first")] = 50,
) -> None:
    """List studies, newest first; in a pipe one each line, fields parted by tabs."""
    page = client.studies.list(kind=kind, status=status, limit=limit)
    if not out.is_terminal:
        for study in page.items:
            out.file.write("\t".join(_fields(study)) + "\n")
        return
    table = Table("study", "kind", "patient", "status", "step")
    for study in page.items:
        table.add_row(*map(safe, _fields(study)))
    out.print(table)


@app.command()
@connected
def show(client: Client, id: Id) -> None:
    """Show one study whole, as JSON."""
    out.print_json(json.dumps(dict(client.studies.get(id).raw)))


@app.command()
@connected
def delete(client: Client, id: Id) -> None:
    """Remove a study with everything that was made of it."""
    client.studies.delete(id)
    out.print(f"study {safe(id)} is removed", highlight=False)


def _fields(study: Study) -> tuple[str, ...]:
    fields = (study.id, study.kind or "", study.patient_id or "", study.status, study.step or "")
    return tuple(map(one_line, fields))
