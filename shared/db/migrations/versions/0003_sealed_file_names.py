"""File names are sealed from here on. Those that are there stay readable; `hounsfield keys reseal` seals them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("study_files", sa.Column("filename_sealed", sa.LargeBinary(), nullable=True))
    op.alter_column("study_files", "filename", existing_type=sa.VARCHAR(), nullable=True)


def downgrade() -> None:
    # What is sealed cannot be opened here: these files keep their ids as names. Row-level security, which would hide
    # rows from an update, is nothing to a change of the column.
    op.execute(
        "alter table study_files alter column filename type varchar using coalesce(filename, id::text)"
    )
    op.alter_column("study_files", "filename", existing_type=sa.VARCHAR(), nullable=False)
    op.drop_column("study_files", "filename_sealed")
