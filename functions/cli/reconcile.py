"""`hounsfield reconcile`."""

from datetime import timedelta
from typing import Annotated

import typer

from functions.cli.helpers import DataDir, open_services, out, require_database, settings_with

app = typer.Typer()


@app.command()
def reconcile(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be taken up")] = False,
    older_than: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="younger objects are left to their notices")
    ] = 60,
    data_dir: DataDir = None,
) -> None:
    """Take up what lies in the bucket `incoming` and no notice told of; close studies that have settled."""
    from functions.ingest.objects.sweep import reconcile as sweep

    settings = settings_with(data_dir=data_dir)
    require_database(settings)
    with open_services(settings) as services:
        swept = sweep(services, dry_run=dry_run, grace=timedelta(seconds=older_than))
    found = swept.objects
    reasons = ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in sorted(swept.left.items()))
    whys = f" ({reasons})" if reasons else ""
    out.print(
        f"{found['accepted']} objects {'would be ' if dry_run else ''}taken up, {found['known']} known, "
        f"{found['young']} too young, {found['ignored']} left alone{whys}; {swept.closed} studies closed",
        highlight=False,
        soft_wrap=True,
    )
