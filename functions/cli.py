"""The `hounsfield` command."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from functions.client import Client
from functions.printing import (
    MENDABLE,
    check_database_url,
    database_errors,
    explain,
    safe,
    show_findings,
    show_letters,
    wait_with_progress,
)
from shared.config import Settings, load_settings
from shared.errors import NotFound

app = typer.Typer(
    help="Medical images from upload to clinical result. Demo models: not for clinical use.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
letters = typer.Typer(help="Events that a function gave up on.", no_args_is_help=True)
app.add_typer(letters, name="dead-letters")
out = Console()
err = Console(stderr=True)

DataDir = Annotated[
    Path | None, typer.Option(help="folder of database, objects and keys [HOUNSFIELD_DATA_DIR]")
]
Url = Annotated[str, typer.Option(envvar="HOUNSFIELD_URL", help="where Hounsfield answers")]


def main() -> None:
    """Run the command; what users can mend is said in one line, without a traceback."""
    try:
        app()
    except MENDABLE as error:
        for line in explain(error):
            err.print(f"[red]hounsfield:[/] {safe(line)}", highlight=False, soft_wrap=True)
        raise SystemExit(2 if isinstance(error, ValidationError) else 1) from error


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

    settings = _settings(data_dir=data_dir, host=host, port=port)
    _end_in_order()
    with database_errors(), LocalStack(settings) as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stack.stop())
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
    settings = _settings()
    table = Table("variable", "value", "meaning", show_lines=False)
    for name, field in Settings.model_fields.items():
        row = (f"HOUNSFIELD_{name.upper()}", getattr(settings, name), field.description)
        table.add_row(*(safe(cell) for cell in row))
    out.print(table)


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to the newest schema."""
    from shared.db.migrations import upgrade

    with _database_url(_settings(data_dir=data_dir)) as url:
        upgrade(url)
    out.print("The database is up to date.")


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
    data_dir: DataDir = None,
) -> None:
    """Make an administrator."""
    from functions.auth.accounts.service import ensure_admin
    from shared.db.migrations import upgrade

    settings = _settings(data_dir=data_dir)
    with _database_url(settings) as url:
        upgrade(url)
        with _services(settings, url) as services:
            user = ensure_admin(services, email, password)
    out.print(f"{safe(user.email)} is an administrator.", highlight=False)


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
    token: Annotated[str | None, typer.Option(envvar="HOUNSFIELD_TOKEN", help="access token")] = None,
    user: Annotated[
        str | None, typer.Option(envvar="HOUNSFIELD_USER", help="e-mail or username to log in with")
    ] = None,
    password: Annotated[
        str | None, typer.Option(envvar="HOUNSFIELD_PASSWORD", help="asked for when not given")
    ] = None,
) -> None:
    """Send a study to a running Hounsfield."""
    if kind != "brain-mri":
        raise typer.BadParameter(f"no pipeline for {kind!r} yet; known: brain-mri", param_hint="--kind")
    client = Client(url, token)
    if not token:
        name = user or typer.prompt("E-mail or username")
        client.login(name, password or typer.prompt("Password", hide_input=True))
    fields = {"modalities": modalities, "patient_id": patient_id, "duplicate": "true" if duplicate else None}
    study = client.submit_mri(files, {name: value for name, value in fields.items() if value})
    known = " (these files were sent before)" if study["known"] else ""
    out.print(f"study {safe(study['id'])}{known}", highlight=False)
    if wait:
        show_findings(out, wait_with_progress(out, client, study["id"]))


@letters.command("list")
def list_letters(data_dir: DataDir = None) -> None:
    """List dead letters, newest first."""
    with _dead_letters(data_dir) as dead:
        show_letters(out, dead.list())


@letters.command()
def show(id: UUID, data_dir: DataDir = None) -> None:
    """Show one dead letter whole."""
    with _dead_letters(data_dir) as dead:
        letter = dead.get(id)
        out.print_json(
            data={
                "id": str(letter.id),
                "function": letter.function,
                "attempts": letter.attempts,
                "error": letter.error,
                "traceparent": letter.traceparent,
                "created_at": letter.created_at.isoformat(),
                "event": letter.envelope,
            }
        )


@letters.command()
def replay(id: UUID, data_dir: DataDir = None) -> None:
    """Deliver the event to its function again."""
    with _dead_letters(data_dir) as dead:
        dead.replay(id)
    out.print("It will be delivered again.")


@letters.command()
def discard(id: UUID, data_dir: DataDir = None) -> None:
    """Drop a dead letter; its event stays unhandled."""
    with _dead_letters(data_dir) as dead:
        dead.discard(id)
    out.print("Discarded.")


def _settings(**overrides: object) -> Settings:
    settings = load_settings(**{name: value for name, value in overrides.items() if value is not None})
    if settings.database_url is not None:
        check_database_url(settings.database_url.get_secret_value())
    return settings


def _end_in_order() -> None:
    """Let SIGTERM end the program as Ctrl-C does, so that nothing that was started is left running."""

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough: the cleaning up must not be cut short
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)


@contextmanager
def _database_url(settings: Settings) -> Iterator[str]:
    """The configured database, or the embedded one: the running server's, or started for the block."""
    with database_errors():
        if settings.database_url is not None:
            yield settings.database_url.get_secret_value()
            return
        from shared.db.embedded import EmbeddedPostgres

        server = EmbeddedPostgres(settings.data_dir / "postgres")
        try:
            yield server.url
        finally:
            server.stop()


@contextmanager
def _services(settings: Settings, url: str) -> Iterator[Any]:
    from shared.db.session import Database
    from shared.runtime import Services
    from shared.security.keys import KeyStore
    from shared.storage.factory import make_storage

    storage = make_storage(settings, "http://127.0.0.1", KeyStore(settings).secret("storage-urls"))
    services = Services(settings, Database(url), storage)
    try:
        yield services
    finally:
        services.close()


@contextmanager
def _dead_letters(data_dir: Path | None) -> Iterator[Any]:
    from shared.db.session import Database
    from shared.runtime.postgres_bus import PostgresBus

    settings = _settings(data_dir=data_dir)
    if settings.database_url is None and not (settings.data_dir / "postgres" / "PG_VERSION").exists():
        raise NotFound(f"there is no database yet in {settings.data_dir}; `hounsfield up` makes one")
    with _database_url(settings) as url:
        database = Database(url)
        try:
            yield PostgresBus(database).dead_letters
        finally:
            database.close()
