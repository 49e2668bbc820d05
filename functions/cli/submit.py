"""`hounsfield submit`."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from functions.cli.helpers import err, out
from functions.cli.server import connected
from functions.printing import (
    WAIT_SECONDS,
    outcome,
    safe,
    sending_progress,
    show_findings,
    wait_with_progress,
)
from shared.client import CallFailed, Client, Sending, Study, StudyFields

app = typer.Typer()
NO_RESULTS, RESUMABLE, INTERRUPTED = 3, 4, 128 + signal.SIGINT
GO_ON = "Run the same command with --resume to go on."


def _existing(text: str) -> Path:
    """Of a variable that is empty by mistake, `Path` would make the folder that we are in."""
    if not text or not Path(text).exists():
        raise typer.BadParameter(f"path {text!r} does not exist.")
    return Path(text)


@app.command()
@connected
def submit(
    client: Client,
    paths: Annotated[
        list[Path],
        typer.Argument(
            parser=_existing,
            help="files, or a folder such as a DICOM series: one study",
        ),
    ],
    kind: Annotated[
        str | None, typer.Option(help="ct, brain-mri, oct or slide; found out when not given")
    ] = None,
    modalities: Annotated[str | None, typer.Option(help="sequence of each file, e.g. flair,t1ce")] = None,
    patient_id: Annotated[str | None, typer.Option(help="pseudonym; generated when not given")] = None,
    name: Annotated[str | None, typer.Option(help="what to call the study")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="show progress until the report is there")] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="go on with an upload that was cut off; send only what is missing"),
    ] = False,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="parts sent at once")] = 4,
    hash_first: Annotated[
        bool,
        typer.Option(
            "--hash-first", help="tell the server the SHA-256 before sending, not with the last part"
        ),
    ] = False,
    duplicate: Annotated[
        bool, typer.Option("--duplicate", help="analyse again even if these files are known")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print the study's id only")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the study as JSON only")] = False,
) -> None:
    """Send a study to a running Hounsfield.

    Exit codes: 0 sent, and with --wait analysed; 1 refused; 2 wrong usage; 3 with --wait: rejected, failed, held or of
    a kind that nothing analyses; 4 the server was away for too long; 130 Ctrl-C. After 4 and 130, --resume goes on.
    """
    console = Console(quiet=True) if quiet or as_json else out
    fields = StudyFields(
        kind=kind,
        modalities=modalities.split(",") if modalities else None,
        patient_id=patient_id,
        name=name,
        duplicate=duplicate,
    )
    sending = Sending(parallel=parallel, resume=resume, hash_first=hash_first, on_note=_note)
    study = _sent(console, client, paths, sending, fields)
    known = " (these files were sent before)" if study.known else ""
    console.print(f"study {safe(study.id)}{known}", highlight=False)
    if wait:
        study = _waited(console, client, study)
    elif as_json:
        study = client.studies.get(study.id)
    if quiet:
        out.print(safe(study.id), highlight=False)
    if as_json:
        out.print_json(json.dumps(dict(study.raw)))
    if wait and study.results is None:
        err.print(f"[red]hounsfield:[/] {safe(outcome(study))}", highlight=False, soft_wrap=True)
        raise typer.Exit(NO_RESULTS)


def _sent(
    console: Console, client: Client, paths: list[Path], sending: Sending, fields: StudyFields
) -> Study:
    """The study that the files became; what can be gone on with later says so."""
    try:
        if not console.is_terminal or console.quiet:
            return client.submit(paths, sending, **fields)
        with sending_progress(console) as progress:
            return client.submit(paths, replace(sending, on_progress=progress), **fields)
    except KeyboardInterrupt:
        err.print(f"\nStopped. {GO_ON}", highlight=False)
        raise typer.Exit(INTERRUPTED) from None
    except CallFailed as error:
        if not error.passing:
            raise
        err.print(f"[red]hounsfield:[/] {safe(error.detail)}. {GO_ON}", highlight=False, soft_wrap=True)
        raise typer.Exit(RESUMABLE) from error


def _waited(console: Console, client: Client, study: Study) -> Study:
    try:
        if console.quiet:
            return client.wait(study, seconds=WAIT_SECONDS)
        study = wait_with_progress(console, client, study.id)
    except KeyboardInterrupt:
        err.print(f"\nNot waited for any longer; study {safe(study.id)} goes on.", highlight=False)
        raise typer.Exit(INTERRUPTED) from None
    show_findings(console, study)
    return study


def _note(text: str) -> None:
    err.print(f"[yellow]note:[/] {safe(text)}", highlight=False, soft_wrap=True)
