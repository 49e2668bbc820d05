"""Sessions. Each transaction drops to a role without privileges and, if it is a tenant's, sees that tenant only."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.orm import Session, SessionTransaction

APP_ROLE = "hounsfield_app"
"""Sees the rows of the tenant in `app.tenant_id`; without one, none."""
SYSTEM_ROLE = "hounsfield_system"
"""Sees the event tables of every tenant, and users for logging in; nothing of patients."""

_SCOPE = text("select set_config('role', :role, true), set_config('app.tenant_id', :tenant, true)")


class ScopedSession(Session):
    """A session bound to a role and a tenant for all its transactions."""


@event.listens_for(ScopedSession, "after_begin")
def _enter_scope(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    connection.execute(_SCOPE, {"role": session.info["role"], "tenant": session.info["tenant"]})


class Database:
    """The engine and the two kinds of session."""

    def __init__(self, url: str, pool_size: int = 10) -> None:
        self.engine: Engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=4 * pool_size,
            pool_pre_ping=True,
            pool_recycle=3600,
            hide_parameters=True,  # errors are logged, and parameters may name a patient
        )

    @contextmanager
    def tenant(self, tenant_id: UUID) -> Iterator[Session]:
        """A transaction that sees and writes one tenant's rows; commits unless the block raises."""
        with self._session(APP_ROLE, str(tenant_id)) as session, session.begin():
            yield session

    @contextmanager
    def system(self) -> Iterator[Session]:
        """A transaction of the platform itself: event tables and log-ins, across tenants."""
        with self._session(SYSTEM_ROLE, "") as session, session.begin():
            yield session

    def check(self) -> None:
        """Raise sqlalchemy.exc.OperationalError unless the database answers."""
        with self.engine.connect() as connection:
            connection.execute(text("select 1"))

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()

    def _session(self, role: str, tenant: str) -> ScopedSession:
        return ScopedSession(self.engine, expire_on_commit=False, info={"role": role, "tenant": tenant})
