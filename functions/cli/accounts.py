"""`hounsfield create-admin`."""

from typing import Annotated

import typer

from functions.cli.helpers import DataDir, open_services, out, settings_with
from functions.printing import safe

app = typer.Typer()


@app.command("create-admin")
def create_admin(
    email: Annotated[
        str, typer.Argument(help="e-mail address; an existing account becomes an administrator")
    ],
    password: Annotated[
        str,
        typer.Option(
            prompt=True, hide_input=True, envvar="HOUNSFIELD_ADMIN_PASSWORD", help="asked for when not given"
        ),
    ],
    tenant: Annotated[
        str, typer.Option(metavar="SLUG", help="short name of the tenant; made when it is missing")
    ] = "default",
    data_dir: DataDir = None,
) -> None:
    """Make an administrator."""
    from functions.auth.accounts.service import ensure_admin

    with open_services(settings_with(data_dir=data_dir), migrate=True) as services:
        has_password = ensure_admin(services, email, password, tenant)
    kept = "" if has_password else " already and keeps their password"
    out.print(f"{safe(email)} is an administrator{kept}.", highlight=False)
