"""`hounsfield submit`."""

from pathlib import Path
from typing import Annotated

import typer

from functions.cli.helpers import out
from functions.client import Client
from functions.printing import safe, show_findings, wait_with_progress

app = typer.Typer()
Url = Annotated[str, typer.Option(envvar="HOUNSFIELD_URL", help="where Hounsfield answers")]


@app.command()
def submit(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="1 to 4 NIfTI volumes")],
    kind: Annotated[str, typer.Option(help="kind of study: brain-mri")] = "brain-mri",
    wait: Annotated[bool, typer.Option("--wait", help="show progress until the report is there")] = False,
    modalities: Annotated[str | None, typer.Option(help="sequence of each file, e.g. flair,t1ce")] = None,
    patient_id: Annotated[str | None, typer.Option(help="pseudonym; generated when not given")] = None,
    duplicate: Annotated[
        bool, typer.Option("--duplicate", help="analyse again even if these files are known")
    ] = False,
    url: Url = "http://127.0.0.1:8000",
    token: Annotated[
        str | None,
        typer.Option(envvar="HOUNSFIELD_TOKEN", help="API key or access token; without one, log in"),
    ] = None,
    user: Annotated[
        str | None, typer.Option(envvar="HOUNSFIELD_USER", help="e-mail or username to log in with")
    ] = None,
    password: Annotated[
        str | None, typer.Option(envvar="HOUNSFIELD_PASSWORD", help="asked for when not given")
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(envvar="HOUNSFIELD_CA_FILE", help="certificates that sign the server's, PEM"),
    ] = None,
) -> None:
    """Send a study to a running Hounsfield."""
    if kind != "brain-mri":
        raise typer.BadParameter(f"no pipeline for {kind!r} yet; known: brain-mri", param_hint="--kind")
    fields = {"modalities": modalities, "patient_id": patient_id, "duplicate": "true" if duplicate else None}
    with Client(url, token, ca_file) as client:
        if not token:
            name = user or typer.prompt("E-mail or username")
            client.login(name, password or typer.prompt("Password", hide_input=True))
        study = client.submit_mri(files, {name: value for name, value in fields.items() if value})
        known = " (these files were sent before)" if study["known"] else ""
        out.print(f"study {safe(study['id'])}{known}", highlight=False)
        if wait:
            show_findings(out, wait_with_progress(out, client, study["id"]))
