"""Migrations lead back as well as forth, and keep what is there."""

from alembic import command
from sqlalchemy import create_engine, inspect, text

from shared.db.migrations import alembic_config, upgrade
from shared.db.models import Role, Study, StudyFile
from shared.db.session import Database
from shared.ids import uuid7
from tests.builders import make_tenant, make_user


def _schema(url: str) -> dict[str, list[str]]:
    engine = create_engine(url)
    found = inspect(engine)
    tables = {name: sorted(c["name"] for c in found.get_columns(name)) for name in found.get_table_names()}
    engine.dispose()
    return tables


def test_down_to_nothing_and_up_again_is_the_same(database_url: str) -> None:
    newest = _schema(database_url)
    command.downgrade(alembic_config(database_url), "base")
    assert set(_schema(database_url)) == {"alembic_version"}
    upgrade(database_url)
    assert _schema(database_url) == newest


def test_files_survive_the_way_down_from_sealed_names_and_up_again(
    database: Database, database_url: str
) -> None:
    tenant_id = make_tenant(database)
    owner = make_user(database, tenant_id, Role.USER)
    study = Study(
        id=uuid7(), tenant_id=tenant_id, owner_id=owner.user_id, kind="brain-mri", patient_id="P", digest="d"
    )
    where = {"bucket": "studies", "size": 1, "sha256": "0" * 64, "tenant_id": tenant_id}
    sealed = StudyFile(id=uuid7(), key="a", filename_sealed=b"sealed", **where)
    clear = StudyFile(id=uuid7(), key="b", filename="t1.nii.gz", **where)
    study.files = [sealed, clear]
    with database.tenant(tenant_id) as session:
        session.add(study)
    command.downgrade(alembic_config(database_url), "0002")
    with database.tenant(tenant_id) as session:
        names = dict(session.execute(text("select key, filename from study_files")).all())
    assert names == {"a": str(sealed.id), "b": "t1.nii.gz"}
    upgrade(database_url)
    with database.tenant(tenant_id) as session:
        file = session.get_one(StudyFile, clear.id)
        assert (file.filename, file.filename_sealed) == ("t1.nii.gz", None)
