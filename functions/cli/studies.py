"""`hounsfield studies …`: what a running Hounsfield holds."""

import json
from typing import Annotated

import typer
from rich.table import Table

from functions.cli.helpers import out
from functions.cli.server import CaFile, Password, Token, Url, User, connect
from functions.printing import one_line, safe
from shared.client import Study

app = typer.Typer(help="Studies on a running Hounsfield.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="the study's id")]
DEFAULT_URL = "http://127.0.0.1:8000"


@app.command("list")
def list_studies(
    kind: Annotated[str | None, typer.Option(help="only studies of this kind")] = None,
    status: Annotated[str | None, typer.Option(help="only studies of this status")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="so many, newest first")] = 50,
    url: Url = DEFAULT_URL,
    token: Token = None,
    user: User = None,
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """List studies, newest first; in a pipe one each line, fields parted by tabs."""
    with connect(url, token, user, password, ca_file) as client:
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
def show(
    id: Id,
    url: Url = DEFAULT_URL,
    token: Token = None,
    user: User = None,
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """Show one study whole, as JSON."""
    with connect(url, token, user, password, ca_file) as client:
        out.print_json(json.dumps(dict(client.studies.get(id).raw)))


@app.command()
def delete(
    id: Id,
    url: Url = DEFAULT_URL,
    token: Token = None,
    user: User = None,
    password: Password = None,
    ca_file: CaFile = None,
) -> None:
    """Remove a study with everything that was made of it."""
    with connect(url, token, user, password, ca_file) as client:
        client.studies.delete(id)
    out.print(f"study {safe(id)} is removed", highlight=False)


def _fields(study: Study) -> tuple[str, ...]:
    fields = (study.id, study.kind or "", study.patient_id or "", study.status, study.step or "")
    return tuple(map(one_line, fields))
