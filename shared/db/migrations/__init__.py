"""Alembic migrations; `upgrade(url)` brings a database to the newest."""

from pathlib import Path

from alembic import command
from alembic.config import Config


def alembic_config(url: str) -> Config:
    """Alembic's configuration, without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = url
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Run the migrations as the database's owner; safe to call from several processes at once."""
    command.upgrade(alembic_config(url), revision)
