"""The declarative base and the columns that every tenant table has."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, ForeignKey, MetaData, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.ids import uuid7

NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Every table's base: named constraints, UTC times, JSONB objects."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: JSONB(none_as_null=True),
    }


class Identified:
    """A UUIDv7 primary key made by the application, so that it is known before the insert."""

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)


class TenantOwned:
    """Belongs to one tenant; row-level security shows it to no other."""

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)


class Stamped:
    """When it was made and last changed."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
