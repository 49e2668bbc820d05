"""Alembic's entry point."""

from alembic import context
from sqlalchemy import create_engine, text

from shared.db import models
from shared.db.base import Base

assert models  # importing it registers the tables
ONE_MIGRATION_AT_A_TIME = 0x484F554E


def run() -> None:
    """Migrate in one transaction, behind an advisory lock."""
    engine = create_engine(context.config.attributes["url"])
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=False)
        with context.begin_transaction():
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": ONE_MIGRATION_AT_A_TIME})
            context.run_migrations()
    engine.dispose()


run()
