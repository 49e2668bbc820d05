"""What hospitals send gets in: uploads in parts, cases, objects found in the bucket, DICOM series, roles of files."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from shared.db.tenancy import isolate

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NEW = ("cases", "uploads", "incoming_objects", "idempotency_keys", "dicom_series", "dicom_instances")
CHECKS = (
    ("studies", "patient_id_source", "patient_id_source in ('given', 'generated', 'dicom')"),
    ("study_files", "role", "role in ('received', 'original', 'volume', 'bscans', 'fundus', 'slide')"),
)
LEFT_EMPTY = {"kind": "'brain-mri'", "digest": "id::text", "sha256": "''"}
"""What the way down writes where nothing is known: the columns were required before."""


def upgrade() -> None:
    _create_tables()
    _change_tables()
    for table in NEW:
        isolate(table)


def _require(table: str, column: str) -> None:
    # As a change of type, which row-level security does not hide rows from.
    op.execute(
        f"alter table {table} alter column {column} type varchar using coalesce({column}, {LEFT_EMPTY[column]})"
    )
    op.alter_column(table, column, existing_type=sa.VARCHAR(), nullable=False)


def _create_tables() -> None:
    op.create_table(
        "cases",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.Column("age", sa.Integer(), nullable=True),
        sa.Column("sex", sa.String(), nullable=True),
        sa.Column("diagnosis", sa.String(), nullable=True),
        sa.Column("notes", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("sex in ('female', 'male', 'other', 'unknown')", name=op.f("ck_cases_sex")),
        sa.CheckConstraint("status in ('pending', 'in_progress', 'completed')", name=op.f("ck_cases_status")),
        sa.CheckConstraint("age between 0 and 150", name=op.f("ck_cases_age")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_cases_owner_id_users")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_cases_tenant_id_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cases")),
    )
    op.create_index("ix_cases_listing", "cases", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index(op.f("ix_cases_owner_id"), "cases", ["owner_id"], unique=False)
    op.create_index(op.f("ix_cases_tenant_id"), "cases", ["tenant_id"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("location", sa.String(), nullable=True),
        sa.Column("answer", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_idempotency_keys_tenant_id_tenants")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_idempotency_keys_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_made", "idempotency_keys", ["created_at"], unique=False)
    op.create_index(op.f("ix_idempotency_keys_tenant_id"), "idempotency_keys", ["tenant_id"], unique=False)
    op.create_index(
        "uq_idempotency_keys_key", "idempotency_keys", ["tenant_id", "user_id", "key_hash"], unique=True
    )
    op.create_table(
        "dicom_series",
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("study_uid", sa.String(), nullable=False),
        sa.Column("series_uid", sa.String(), nullable=False),
        sa.Column("modality", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("study_date", sa.Date(), nullable=True),
        sa.Column("attributes", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("chosen", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_dicom_series_study_id_studies"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_dicom_series_tenant_id_tenants")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dicom_series")),
        sa.UniqueConstraint("study_id", "series_uid", name=op.f("uq_dicom_series_study_id")),
    )
    op.create_index("ix_dicom_series_series_uid", "dicom_series", ["tenant_id", "series_uid"], unique=False)
    op.create_index("ix_dicom_series_study_uid", "dicom_series", ["tenant_id", "study_uid"], unique=False)
    op.create_index(op.f("ix_dicom_series_tenant_id"), "dicom_series", ["tenant_id"], unique=False)
    op.create_table(
        "incoming_objects",
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("study_id", sa.Uuid(), nullable=True),
        sa.Column("ignored", sa.String(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"],
            ["studies.id"],
            name=op.f("fk_incoming_objects_study_id_studies"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_incoming_objects_tenant_id_tenants")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incoming_objects")),
    )
    op.create_index("ix_incoming_objects_made", "incoming_objects", ["created_at"], unique=False)
    op.create_index(op.f("ix_incoming_objects_study_id"), "incoming_objects", ["study_id"], unique=False)
    op.create_index(op.f("ix_incoming_objects_tenant_id"), "incoming_objects", ["tenant_id"], unique=False)
    op.create_index(
        "uq_incoming_objects_version", "incoming_objects", ["tenant_id", "key_hash", "version"], unique=True
    )
    op.create_table(
        "uploads",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=True),
        sa.Column("filename_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("part_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("media_type", sa.String(), nullable=True),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("storage_id", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("patient_id", sa.String(), nullable=True),
        sa.Column("patient_name_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("scan_date", sa.Date(), nullable=True),
        sa.Column("case_id", sa.Uuid(), nullable=True),
        sa.Column("modality", sa.String(), nullable=True),
        sa.Column("duplicate", sa.Boolean(), nullable=False),
        sa.Column("study_id", sa.Uuid(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind in ('ct', 'brain-mri', 'oct', 'slide')", name=op.f("ck_uploads_kind")),
        sa.CheckConstraint(
            "status in ('open', 'finished', 'aborted', 'expired')", name=op.f("ck_uploads_status")
        ),
        sa.CheckConstraint("size > 0 and part_bytes > 0", name=op.f("ck_uploads_size")),
        sa.ForeignKeyConstraint(
            ["case_id"], ["cases.id"], name=op.f("fk_uploads_case_id_cases"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_uploads_owner_id_users")),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_uploads_study_id_studies"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_uploads_tenant_id_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index(
        "ix_uploads_expiry",
        "uploads",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("status = 'open'"),
    )
    op.create_index(op.f("ix_uploads_owner_id"), "uploads", ["owner_id"], unique=False)
    op.create_index(op.f("ix_uploads_study_id"), "uploads", ["study_id"], unique=False)
    op.create_index(op.f("ix_uploads_tenant_id"), "uploads", ["tenant_id"], unique=False)
    op.create_table(
        "dicom_instances",
        sa.Column("series_id", sa.Uuid(), nullable=False),
        sa.Column("sop_class", sa.String(), nullable=False),
        sa.Column("sop_uid", sa.String(), nullable=False),
        sa.Column("transfer_syntax", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=True),
        sa.Column("columns", sa.Integer(), nullable=True),
        sa.Column("bits_allocated", sa.Integer(), nullable=True),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("header_bytes", sa.Integer(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["series_id"],
            ["dicom_series.id"],
            name=op.f("fk_dicom_instances_series_id_dicom_series"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_dicom_instances_tenant_id_tenants")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dicom_instances")),
        sa.UniqueConstraint("series_id", "sop_uid", name=op.f("uq_dicom_instances_series_id")),
    )
    op.create_index("ix_dicom_instances_sop_uid", "dicom_instances", ["tenant_id", "sop_uid"], unique=False)
    op.create_index(op.f("ix_dicom_instances_tenant_id"), "dicom_instances", ["tenant_id"], unique=False)


def _change_tables() -> None:
    op.add_column("studies", sa.Column("case_id", sa.Uuid(), nullable=True))
    op.add_column("studies", sa.Column("name_sealed", sa.LargeBinary(), nullable=True))
    op.add_column(
        "studies", sa.Column("patient_id_source", sa.String(), server_default="given", nullable=False)
    )
    op.add_column("studies", sa.Column("intake_key", sa.String(), nullable=True))
    op.add_column("studies", sa.Column("settle_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("studies", sa.Column("held", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("studies", sa.Column("released_by", sa.Uuid(), nullable=True))
    op.alter_column("studies", "kind", existing_type=sa.VARCHAR(), nullable=True)
    op.alter_column("studies", "digest", existing_type=sa.VARCHAR(), nullable=True)
    op.drop_index("uq_studies_digest", table_name="studies")
    op.create_index(
        "uq_studies_digest",
        "studies",
        ["owner_id", "digest"],
        unique=True,
        postgresql_where=sa.text("status <> 'rejected' and not duplicate"),
    )
    op.create_index(op.f("ix_studies_case_id"), "studies", ["case_id"], unique=False)
    op.create_index(
        "uq_studies_intake_key",
        "studies",
        ["tenant_id", "intake_key"],
        unique=True,
        postgresql_where=sa.text("settle_at is not null"),
    )
    op.create_foreign_key(
        op.f("fk_studies_case_id_cases"), "studies", "cases", ["case_id"], ["id"], ondelete="SET NULL"
    )
    op.add_column("study_files", sa.Column("role", sa.String(), server_default="volume", nullable=False))
    op.add_column("study_files", sa.Column("media_type", sa.String(), nullable=True))
    op.alter_column("study_files", "sha256", existing_type=sa.VARCHAR(), nullable=True)
    op.add_column("tenants", sa.Column("quota_bytes", sa.BigInteger(), nullable=True))
    for table, name, rule in CHECKS:
        op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, rule)


def downgrade() -> None:
    for table, name, _ in CHECKS:
        op.drop_constraint(op.f(f"ck_{table}_{name}"), table, type_="check")
    op.drop_column("tenants", "quota_bytes")
    _require("study_files", "sha256")
    op.drop_column("study_files", "media_type")
    op.drop_column("study_files", "role")
    op.drop_constraint(op.f("fk_studies_case_id_cases"), "studies", type_="foreignkey")
    op.drop_index(
        "uq_studies_intake_key", table_name="studies", postgresql_where=sa.text("settle_at is not null")
    )
    op.drop_index(op.f("ix_studies_case_id"), table_name="studies")
    op.drop_index(
        "uq_studies_digest",
        table_name="studies",
        postgresql_where=sa.text("status <> 'rejected' and not duplicate"),
    )
    op.create_index(
        "uq_studies_digest",
        "studies",
        ["owner_id", "kind", "digest"],
        unique=True,
        postgresql_where=sa.text("status <> 'rejected' and not duplicate"),
    )
    _require("studies", "digest")
    _require("studies", "kind")
    op.drop_column("studies", "released_by")
    op.drop_column("studies", "held")
    op.drop_column("studies", "settle_at")
    op.drop_column("studies", "intake_key")
    op.drop_column("studies", "patient_id_source")
    op.drop_column("studies", "name_sealed")
    op.drop_column("studies", "case_id")
    op.drop_index(op.f("ix_dicom_instances_tenant_id"), table_name="dicom_instances")
    op.drop_index("ix_dicom_instances_sop_uid", table_name="dicom_instances")
    op.drop_table("dicom_instances")
    op.drop_index(op.f("ix_uploads_tenant_id"), table_name="uploads")
    op.drop_index(op.f("ix_uploads_study_id"), table_name="uploads")
    op.drop_index(op.f("ix_uploads_owner_id"), table_name="uploads")
    op.drop_index("ix_uploads_expiry", table_name="uploads", postgresql_where=sa.text("status = 'open'"))
    op.drop_table("uploads")
    op.drop_index("uq_incoming_objects_version", table_name="incoming_objects")
    op.drop_index(op.f("ix_incoming_objects_tenant_id"), table_name="incoming_objects")
    op.drop_index(op.f("ix_incoming_objects_study_id"), table_name="incoming_objects")
    op.drop_index("ix_incoming_objects_made", table_name="incoming_objects")
    op.drop_table("incoming_objects")
    op.drop_index(op.f("ix_dicom_series_tenant_id"), table_name="dicom_series")
    op.drop_index("ix_dicom_series_study_uid", table_name="dicom_series")
    op.drop_index("ix_dicom_series_series_uid", table_name="dicom_series")
    op.drop_table("dicom_series")
    op.drop_index("uq_idempotency_keys_key", table_name="idempotency_keys")
    op.drop_index(op.f("ix_idempotency_keys_tenant_id"), table_name="idempotency_keys")
    op.drop_index("ix_idempotency_keys_made", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index(op.f("ix_cases_tenant_id"), table_name="cases")
    op.drop_index(op.f("ix_cases_owner_id"), table_name="cases")
    op.drop_index("ix_cases_listing", table_name="cases")
    op.drop_table("cases")
