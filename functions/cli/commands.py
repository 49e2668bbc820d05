"""Every subcommand of `hounsfield`, put together."""

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from functions.cli import (
    accounts,
    audit,
    buckets,
    chores,
    dead_letters,
    dicom,
    keys,
    reconcile,
    run,
    studies,
    submit,
)
from functions.cli.helpers import err
from functions.printing import MENDABLE, explain, safe
from shared.telemetry.logs import configure_logs

app = typer.Typer(
    help="Medical images from upload to clinical result. Demo models: not for clinical use.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _group in (run.app, dicom.app, accounts.app, submit.app, reconcile.app):
    app.add_typer(_group)
app.add_typer(studies.app, name="studies")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(keys.app, name="keys")
app.add_typer(buckets.app, name="buckets")
app.add_typer(chores.app, name="chores")
app.add_typer(audit.app, name="audit")


def run_command() -> None:
    """Run the command; what users can mend is said in one line, without a traceback."""
    # On stderr, apart from what commands print; `up` has settings for it.
    configure_logs("WARNING", "console")
    try:
        app()
    except MENDABLE as error:
        for line in explain(error):
            err.print(f"[red]hounsfield:[/] {safe(line)}", highlight=False, soft_wrap=True)
        raise SystemExit(2 if isinstance(error, ValidationError | SettingsError) else 1) from error
