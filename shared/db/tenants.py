"""The tenants that there are, for work that goes from one to the next."""

from uuid import UUID

from sqlalchemy import select

from shared.db.models import Tenant
from shared.db.session import Database


def tenant_ids(database: Database) -> list[UUID]:
    """Every tenant, oldest first."""
    with database.system() as session:
        return list(session.scalars(select(Tenant.id).order_by(Tenant.id)))
