"""`hounsfield audit …`: what docs/audit.md tells of."""

import re
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from functions.cli.helpers import DataDir, err, open_services, out, require_database, settings_with
from functions.printing import safe

if TYPE_CHECKING:
    from shared.security.audit_chain import Head

app = typer.Typer(help="Who read or changed what.", no_args_is_help=True)


@app.callback()
def audit() -> None:
    """Who read or changed what."""


@app.command()
def verify(
    tenant: Annotated[str | None, typer.Option(help="only this tenant: its short name or id")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="SEQ:HASH", help="a head printed before; the log must still hold it")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Check that no row was removed, changed, put in or moved; exits 1 and says which when one was."""
    from shared.security.audit_verify import tenants, verify_tenant

    anchor = _head(at) if at else None
    settings = settings_with(data_dir=data_dir)
    require_database(settings)
    with open_services(settings) as services:
        chosen = _chosen(tenants(services), tenant)
        if anchor and len(chosen) != 1:
            raise typer.BadParameter("a head is one tenant's; name it with --tenant", param_hint="--at")
        broken = 0
        for tenant_id, slug in chosen.items():
            verdict = verify_tenant(services, tenant_id, anchor)
            line = f"{slug}: {verdict.good} rows are good, head {verdict.head or 'none'}"
            out.print(safe(line), highlight=False, soft_wrap=True)
            if verdict.problem:
                broken += 1
                err.print(f"[red]{safe(slug)}:[/] {safe(verdict.problem)}", highlight=False, soft_wrap=True)
    if broken:
        raise typer.Exit(1)


def _chosen(known: dict[UUID, str], tenant: str | None) -> dict[UUID, str]:
    chosen = {key: slug for key, slug in known.items() if tenant in (None, slug, str(key))}
    if tenant is not None and not chosen:
        raise typer.BadParameter(
            f"no tenant {tenant!r}; there are: {', '.join(known.values())}", param_hint="--tenant"
        )
    return chosen


def _head(text: str) -> "Head":
    from shared.security.audit_chain import Head

    seq, _, digits = text.partition(":")
    if not re.fullmatch("[1-9][0-9]{0,18}:[0-9a-f]{64}", text):
        raise typer.BadParameter("a head is SEQ:HASH, as this command prints it", param_hint="--at")
    return Head(int(seq), bytes.fromhex(digits))
