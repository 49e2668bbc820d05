"""What several subcommands need: consoles, options, settings, the database, services."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from functions.printing import check_database_url, database_errors
from shared.config import Settings, load_settings
from shared.errors import NotFound

if TYPE_CHECKING:  # who only submits studies need not have SQLAlchemy
    from shared.runtime import Services

out = Console()
err = Console(stderr=True)

DataDir = Annotated[
    Path | None, typer.Option(help="folder of database, objects and keys [HOUNSFIELD_DATA_DIR]")
]


def settings_with(**overrides: object) -> Settings:
    """The settings, with what was given on the command line (all that is not None)."""
    settings = load_settings(**{name: value for name, value in overrides.items() if value is not None})
    if settings.database_url is not None:
        check_database_url(settings.database_url.get_secret_value())
    return settings


def require_database(settings: Settings) -> None:
    """Raise NotFound where the embedded database would have to be made first."""
    if settings.database_url is None and not (settings.data_dir / "postgres" / "PG_VERSION").exists():
        raise NotFound(f"there is no database yet in {settings.data_dir}; `hounsfield up` makes one")


@contextmanager
def open_database(settings: Settings) -> Iterator[str]:
    """URL of the configured database, or of the embedded one: the running server's, or started for the block."""
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
def open_services(settings: Settings, *, migrate: bool = False) -> Iterator["Services"]:
    """What functions have, while the block runs; `migrate` brings the database to the newest schema first."""
    from functions.wiring import make_services
    from shared.db.migrations import upgrade

    with open_database(settings) as url:
        if migrate:
            upgrade(url)
        if settings.storage_url is None:
            settings.data_dir.mkdir(parents=True, exist_ok=True)  # an error of this one names the folder
        services = make_services(settings, url, settings.public_url or "http://127.0.0.1")
        try:
            yield services
        finally:
            services.close()
