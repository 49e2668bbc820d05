"""No tenant sees or touches another's rows: checked in SQL, for every table there is."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from alembic import command
from sqlalchemy import CheckConstraint, Connection, Table, create_engine, func, insert, select, text, update
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from shared.db import models
from shared.db.base import Base
from shared.db.migrations import alembic_config
from shared.db.session import APP_ROLE, SYSTEM_ROLE, Database
from shared.ids import uuid7
from tests.builders import make_tenant

assert models  # importing it registers the tables
TABLES = [table for table in Base.metadata.sorted_tables if "tenant_id" in table.c]
WITHOUT_TENANT = {"tenants", "subscriptions", "login_attempts"}
SEEN_BY_THE_PLATFORM = {
    "users",
    "refresh_tokens",
    "api_keys",
    "password_resets",
    "identities",
    "outbox",
    "inbox",
    "dead_letters",
}
"""Logging in and moving events are done before, or across, tenants. Nothing of patients may join this list."""
WITHHELD = {"audit_log": {"update", "delete"}, "audit_heads": {"delete"}}
"""What nobody may do, to their own rows either."""
every_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.name))


@pytest.fixture
def owner(database_url: str) -> Iterator[Connection]:
    """The database's owner, on whom no policy and, so that rows need no parents, no foreign key is enforced."""
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("set session_replication_role = replica"))
        yield connection
    engine.dispose()


def test_a_tenant_sees_no_other_tenants_name(database: Database, tenants: tuple[UUID, UUID]) -> None:
    with database.tenant(tenants[0]) as session:
        assert session.scalars(select(models.Tenant.id)).all() == [tenants[0]]
    with database.system() as session:
        assert set(tenants) <= set(session.scalars(select(models.Tenant.id)))


@pytest.fixture
def tenants(database: Database) -> tuple[UUID, UUID]:
    """Two hospitals."""
    return make_tenant(database), make_tenant(database)


def make_row(table: Table, tenant_id: UUID) -> dict[str, Any]:
    """A row that satisfies the table's own constraints."""
    row = {
        column.name: _value(table, column.name, column.type.python_type)
        for column in table.columns
        if not column.nullable and column.server_default is None and column.identity is None
    }
    return {**row, "tenant_id": tenant_id}


def _value(table: Table, name: str, kind: type) -> Any:
    checks = [str(item.sqltext) for item in table.constraints if isinstance(item, CheckConstraint)]
    allowed = [found[1] for check in checks if (found := re.match(rf"{name} in \('([^']+)'", check))]
    values = {int: 1, float: 0.5, bool: False, bytes: b"x", dict: {}, list: [], datetime: datetime.now(UTC)}
    if allowed:
        return allowed[0]
    if kind is UUID:
        return uuid7()
    return values.get(kind, uuid7().hex)


def count(session: Session | Connection, table: Table) -> int:
    return session.execute(select(func.count()).select_from(table)).scalar_one()


def steal(table: Table, tenant_id: UUID) -> Any:
    return update(table).values(tenant_id=tenant_id)


def test_every_table_belongs_to_tenants_or_is_known_not_to() -> None:
    assert {table.name for table in Base.metadata.sorted_tables} - {table.name for table in TABLES} == (
        WITHOUT_TENANT
    )


@every_table
def test_row_level_security_is_on_and_binds_the_owner_too(owner: Connection, table: Table) -> None:
    flags = owner.execute(
        text("select relrowsecurity, relforcerowsecurity from pg_class where oid = cast(:name as regclass)"),
        {"name": table.name},
    ).one()
    assert tuple(flags) == (True, True)


@every_table
def test_a_row_is_visible_to_its_own_tenant_only(
    database: Database, owner: Connection, tenants: tuple[UUID, UUID], table: Table
) -> None:
    ours, theirs = tenants
    owner.execute(insert(table).values(make_row(table, ours)))
    with database.tenant(ours) as session:
        assert count(session, table) == 1
    with database.tenant(theirs) as session:
        assert count(session, table) == 0


@every_table
def test_a_row_cannot_be_changed_or_deleted_by_another_tenant(
    database: Database, owner: Connection, tenants: tuple[UUID, UUID], table: Table
) -> None:
    ours, theirs = tenants
    owner.execute(insert(table).values(make_row(table, ours)))
    for kind, statement in {"update": steal(table, theirs), "delete": table.delete()}.items():
        if kind in WITHHELD.get(table.name, ()):
            with (
                pytest.raises(ProgrammingError, match="permission denied"),
                database.tenant(theirs) as session,
            ):
                session.execute(statement)
        else:
            with database.tenant(theirs) as session:
                done: Any = session.execute(statement)
            assert done.rowcount == 0
    assert owner.execute(select(table.c.tenant_id)).scalars().all() == [ours]


@every_table
def test_a_row_cannot_be_written_into_or_moved_to_another_tenant(
    database: Database, owner: Connection, tenants: tuple[UUID, UUID], table: Table
) -> None:
    ours, theirs = tenants
    owner.execute(insert(table).values(make_row(table, ours)))
    moved = "permission denied" if "update" in WITHHELD.get(table.name, ()) else "row-level security"
    written = insert(table).values(make_row(table, theirs))
    for statement, refusal in ((written, "row-level security"), (steal(table, theirs), moved)):
        with pytest.raises(ProgrammingError, match=refusal), database.tenant(ours) as session:
            session.execute(statement)


@every_table
def test_without_a_tenant_there_are_no_rows_and_none_can_be_written(
    database: Database, owner: Connection, tenants: tuple[UUID, UUID], table: Table
) -> None:
    owner.execute(insert(table).values(make_row(table, tenants[0])))
    with database.engine.begin() as connection:
        connection.execute(text(f"set local role {APP_ROLE}"))
        assert count(connection, table) == 0
        with pytest.raises(ProgrammingError, match="row-level security"):
            connection.execute(insert(table).values(make_row(table, tenants[0])))
        connection.rollback()


@every_table
def test_the_platform_itself_sees_log_ins_and_events_and_nothing_of_patients(
    database: Database, owner: Connection, tenants: tuple[UUID, UUID], table: Table
) -> None:
    owner.execute(insert(table).values(make_row(table, tenants[0])))
    if table.name in SEEN_BY_THE_PLATFORM:
        with database.system() as session:
            assert count(session, table) == 1
    else:
        with pytest.raises(ProgrammingError, match="permission denied"), database.system() as session:
            count(session, table)


def test_a_transaction_leaves_no_tenant_behind_on_its_connection(
    database_url: str, tenants: tuple[UUID, UUID]
) -> None:
    database = Database(database_url, pool_size=1)
    with database.tenant(tenants[0]) as session:
        session.execute(text("select 1"))
    with database.engine.connect() as connection:
        role, tenant = connection.execute(
            text("select current_user, current_setting('app.tenant_id', true)")
        ).one()
    database.close()
    assert role not in (APP_ROLE, SYSTEM_ROLE)
    assert not tenant


@pytest.mark.parametrize("role", [APP_ROLE, SYSTEM_ROLE])
def test_the_roles_of_sessions_have_no_privileges_of_their_own(owner: Connection, role: str) -> None:
    flags = owner.execute(
        text(
            "select rolsuper, rolbypassrls, rolcanlogin, rolcreaterole, rolcreatedb from pg_roles "
            "where rolname = :role"
        ),
        {"role": role},
    ).one()
    assert not any(flags)
    owned = text("select count(*) from pg_class where relowner = cast(:role as regrole)")
    assert owner.execute(owned, {"role": role}).scalar_one() == 0


def test_no_policy_is_for_everybody(owner: Connection) -> None:
    policies = owner.execute(text("select tablename, policyname, roles::text[] from pg_policies")).all()
    assert {(table, *roles) for table, _, roles in policies} == {
        *((table.name, APP_ROLE) for table in TABLES),
        *((name, SYSTEM_ROLE) for name in SEEN_BY_THE_PLATFORM),
        ("tenants", APP_ROLE),
        ("tenants", SYSTEM_ROLE),
    }


def test_the_migrations_make_what_the_models_say(database_url: str) -> None:
    command.check(alembic_config(database_url))
