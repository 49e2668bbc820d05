"""The SQL that migrations use to put a table under row-level security."""

from alembic import op

from shared.db.session import APP_ROLE, SYSTEM_ROLE

_TENANT = "nullif(current_setting('app.tenant_id', true), '')::uuid"


def create_roles() -> None:
    """The two roles that sessions drop to; neither may log in, own anything or bypass row-level security."""
    for role in (APP_ROLE, SYSTEM_ROLE):
        op.execute(
            f"do $$ begin if not exists (select from pg_roles where rolname = '{role}') then "
            f"create role {role} nologin nosuperuser nobypassrls; end if; end $$"
        )
        op.execute(f"grant {role} to current_user")
        op.execute(f"grant usage on schema public to {role}")


ALL = "select, insert, update, delete"


def isolate(table: str, *, column: str = "tenant_id", app: str = ALL, system: str = "") -> None:
    """Show a table's rows to their own tenant only.

    column: names the tenant. app: what a tenant may do with its rows. system: what the platform itself may do with
    all rows, such as `select, update`.
    """
    op.execute(f"alter table {table} enable row level security")
    op.execute(f"alter table {table} force row level security")
    op.execute(f"grant {app} on {table} to {APP_ROLE}")
    op.execute(
        f"create policy tenant on {table} to {APP_ROLE} "
        f"using ({column} = {_TENANT}) with check ({column} = {_TENANT})"
    )
    if system:
        op.execute(f"grant {system} on {table} to {SYSTEM_ROLE}")
        op.execute(f"create policy platform on {table} to {SYSTEM_ROLE} using (true) with check (true)")
