"""PostgreSQL: typed models, migrations, sessions that see one tenant, and the embedded server of one machine."""
