"""Keys are replaced while the platform runs: nobody is logged out, no name of a patient or file is lost."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import jwt
import pytest
from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import DBAPIError
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from functions import studies
from functions.wiring import make_services
from shared.config import Settings
from shared.db.models import AuditEntry, Study, StudyFile, Tenant
from shared.db.session import Database
from shared.errors import Conflict, NotFound
from shared.ids import uuid7
from shared.runtime import Services
from shared.runtime.unit import unit_of_work
from shared.security.audit import Actor
from shared.security.audit_verify import verify_tenant
from shared.security.keys import KeyStore, key_store, token_issuer
from shared.security.principal import Principal
from shared.security.ring_folder import OLDEST, RINGS, KeyFile, RingName
from shared.security.ring_log import record
from shared.security.ring_upkeep import SETTLED, old_keys, reseal, retire
from shared.security.rings import new_content, utc_now
from shared.security.sealing import KEY_ID, name_ring
from tests.builders import make_tenant, make_user
from tests.contract.conftest import PASSWORD
from tests.contract.test_bus import eventually

OPERATOR = Actor(None, "command-line")
NAMES = [f"Patient {number}" for number in range(5)]


def add_key(services: Services, ring: RingName, age: timedelta | None) -> KeyFile:
    """A key as if it had been made so long ago; without an age, before there were rings."""
    folder = services.once(key_store).folder
    file = KeyFile(utc_now() - age if age is not None else OLDEST, ring)
    with folder.locked():
        folder.add(file, new_content(ring))
    for one in services.once(key_store).rings:
        one.kept(fresh=True)
    return file


def add_study(services: Services, owner: Principal, name: str | bytes) -> UUID:
    """A study with the patient's name, sealed now; or with these bytes in its place."""
    study_id = uuid7()
    sealed = services.once(name_ring).seal(name, study_id) if isinstance(name, str) else name
    with services.database.tenant(owner.tenant_id) as session:
        session.add(
            Study(
                id=study_id,
                tenant_id=owner.tenant_id,
                owner_id=owner.user_id,
                kind="brain-mri",
                patient_id="P-1",
                patient_name_sealed=sealed,
                digest=study_id.hex,
            )
        )
    return study_id


def add_file(services: Services, owner: Principal, study_id: UUID, name: str, **values: object) -> UUID:
    """A file of a study under this name, sealed now unless `values` say otherwise."""
    file_id = uuid7()
    fields = {"filename_sealed": services.once(name_ring).seal(name, file_id), **values}
    with services.database.tenant(owner.tenant_id) as session:
        session.add(
            StudyFile(
                id=file_id,
                tenant_id=owner.tenant_id,
                study_id=study_id,
                bucket="studies",
                key=f"{owner.tenant_id}/{study_id}/original/{file_id}.nii",
                size=1,
                sha256="0",
                **fields,
            )
        )
    return file_id


def files(services: Services, owner: Principal) -> list[StudyFile]:
    with services.database.tenant(owner.tenant_id) as session:
        return list(session.scalars(select(StudyFile).order_by(StudyFile.id)))


def sealed_names(services: Services, tenant_id: UUID) -> dict[UUID, bytes]:
    with services.database.tenant(tenant_id) as session:
        rows = session.execute(select(Study.id, Study.patient_name_sealed))
        return {study_id: sealed for study_id, sealed in rows if sealed is not None}


def key_ids(services: Services, tenant_id: UUID) -> set[str]:
    return {sealed[KEY_ID].hex() for sealed in sealed_names(services, tenant_id).values()}


def names(services: Services, tenant_id: UUID) -> list[str]:
    ring = services.once(name_ring)
    found = sealed_names(services, tenant_id)
    return sorted(ring.open(sealed, study_id) for study_id, sealed in found.items())


def run_reseal(services: Services, size: int = 200) -> int:
    return sum(batch.count for batch in reseal(services, OPERATOR, size))


def entries(services: Services, tenant_id: UUID) -> list[AuditEntry]:
    with services.database.tenant(tenant_id) as session:
        return list(session.scalars(select(AuditEntry).order_by(AuditEntry.seq)))


@pytest.fixture
def owner(database: Database, tenant_id: UUID) -> Principal:
    return make_user(database, tenant_id)


@pytest.fixture
def old_services(settings: Settings, database_url: str, tmp_path: Path) -> Services:
    """An installation from before there were rings: one signing key, nothing else."""
    (tmp_path / "old").mkdir(mode=0o700)
    old = settings.model_copy(update={"keys_dir": tmp_path / "old"})
    services = make_services(old, database_url, "http://testserver")
    add_key(services, "signing", None)
    return services


class TestTokens:
    """A rotation of the signing key in another process, seen through the public API."""

    @pytest.fixture
    def client(self, client_for: Callable[..., TestClient]) -> TestClient:
        return client_for(studies.function)

    def test_old_and_new_tokens_are_good_and_both_keys_are_published(
        self,
        client: TestClient,
        services: Services,
        register_and_login: Callable[[TestClient, str], dict[str, str]],
    ) -> None:
        def kids() -> list[str]:
            return [key["kid"] for key in client.get("/api/auth/jwks.json").json()["keys"]]

        def kid(headers: dict[str, str]) -> str:
            return str(jwt.get_unverified_header(headers["Authorization"].removeprefix("Bearer "))["kid"])

        before = register_and_login(client, "anna")
        assert kids() == [kid(before)]
        KeyStore(services.settings).rotate("signing")
        assert len(kids()) == 2
        eventually(lambda: services.once(key_store).signing.current.id == kids()[1])
        after = register_and_login(client, "berta")
        assert [kid(before), kid(after)] == kids()
        for headers in (before, after):
            assert client.get("/api/auth/me", headers=headers).status_code == 200

    def test_a_fresh_token_is_good_at_once_whatever_key_was_asked_for_before(
        self,
        client: TestClient,
        services: Services,
        register_and_login: Callable[[TestClient, str], dict[str, str]],
    ) -> None:
        def status(token: str) -> int:
            return client.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"}).status_code

        register_and_login(client, "anna")
        store = services.once(key_store)
        made_up = jwt.encode({}, store.private_key, "EdDSA", headers={"kid": "nope"})
        assert status(made_up) == 401
        (key,) = store.rotate("signing")
        login = client.post("/api/auth/login", json={"login": "anna", "password": PASSWORD})
        token = login.json()["access_token"]
        assert jwt.get_unverified_header(token)["kid"] == key.id
        assert [status(token), status(made_up), status(token)] == [200, 401, 200]

    def test_a_signing_key_goes_when_no_token_of_its_time_can_be_valid(self, services: Services) -> None:
        services.once(key_store).complete()
        (first,) = services.once(key_store).signing.kept()
        services.once(key_store).rotate("signing")
        with pytest.raises(Conflict, match="may be in use until"):
            retire(services, OPERATOR, first.id)
        oldest = add_key(services, "signing", SETTLED * 2)
        assert old_keys(services)[0].needed is not None
        add_key(services, "signing", SETTLED + timedelta(seconds=1))
        assert [old.file for old in retire(services, OPERATOR) if old.needed is None] == [oldest]
        assert len(services.once(key_store).jwks()["keys"]) == 3
        with pytest.raises(Conflict, match="in use"):
            retire(services, OPERATOR, services.once(key_store).signing.current.id)


class TestNames:
    """The names of patients."""

    def test_names_from_before_the_rings_are_sealed_anew_and_then_the_old_key_goes(
        self, old_services: Services, owner: Principal
    ) -> None:
        for name in NAMES:
            add_study(old_services, owner, name)
        legacy = old_services.once(key_store).names.newest.key_id
        assert key_ids(old_services, owner.tenant_id) == {legacy}
        for ring in ("signing", "names", "audit", "root"):
            add_key(old_services, ring, timedelta(days=10))
        assert names(old_services, owner.tenant_id) == NAMES
        (old,) = retire(old_services, OPERATOR)
        assert old.file.name == "signing.pem"
        assert old.needed is not None
        assert "5 names are sealed with it" in old.needed

        assert run_reseal(old_services) == 5
        assert key_ids(old_services, owner.tenant_id) == {old_services.once(key_store).names.newest.key_id}
        (old,) = retire(old_services, OPERATOR)
        assert old.needed is None
        assert retire(old_services, OPERATOR) == ()
        again = KeyStore(old_services.settings)
        assert [len(ring.kept()) for ring in again.rings] == [1, 1, 1, 1]
        assert names(old_services, owner.tenant_id) == NAMES

    def test_the_one_old_key_stays_as_long_as_anything_is_derived_from_it(
        self, old_services: Services
    ) -> None:
        rings: tuple[RingName, ...] = ("signing", "names", "root")
        for ring in rings:
            (old,) = old_keys(old_services) or (None,)
            assert old is None or old.needed is not None
            add_key(old_services, ring, timedelta(days=10))
        (old,) = old_keys(old_services)
        assert old.needed is None

    def test_what_changed_shows_nowhere(self, services: Services, owner: Principal) -> None:
        def seen() -> list[tuple[object, ...]]:
            columns = [column for column in Study.__table__.columns if column.name != "patient_name_sealed"]
            with services.database.tenant(owner.tenant_id) as session:
                return [tuple(row) for row in session.execute(select(*columns).order_by(Study.id))]

        add_study(services, owner, NAMES[0])
        before = seen()
        services.once(key_store).rotate("names")
        services.once(key_store).names.kept(fresh=True)
        assert run_reseal(services) == 1
        assert seen() == before

    def test_every_tenant_has_its_turn_and_its_own_line_in_the_audit_log(
        self, services: Services, database: Database
    ) -> None:
        owners = [make_user(database, make_tenant(database)) for _ in range(3)]
        for owner in owners[:2]:
            for name in NAMES:
                add_study(services, owner, name)
        services.once(key_store).rotate("names")
        services.once(key_store).names.kept(fresh=True)
        assert run_reseal(services, size=2) == 10
        for owner, expected in zip(owners, (NAMES, NAMES, []), strict=True):
            assert names(services, owner.tenant_id) == expected
            with database.tenant(owner.tenant_id) as session:
                lines = session.scalars(select(AuditEntry).where(AuditEntry.action == "keys.reseal")).all()
            assert sum(line.details["names"] for line in lines) == len(expected)
            assert all(line.credential == "command-line" for line in lines)

    def test_a_reseal_that_breaks_off_goes_on_where_it_stopped(
        self, services: Services, owner: Principal
    ) -> None:
        studies = [add_study(services, owner, name) for name in NAMES]
        services.once(key_store).rotate("names")
        services.once(key_store).names.kept(fresh=True)
        new = services.once(key_store).names.newest.key_id

        def done() -> list[UUID]:
            found = sealed_names(services, owner.tenant_id)
            return sorted(study_id for study_id, sealed in found.items() if sealed[KEY_ID].hex() == new)

        with services.database.engine.begin() as connection:
            connection.execute(text(_REFUSE.format(studies[3])))
        with pytest.raises(DBAPIError):
            run_reseal(services, size=2)
        assert done() == studies[:2]
        assert names(services, owner.tenant_id) == NAMES
        with services.database.engine.begin() as connection:
            connection.execute(text("drop trigger refuse on studies"))
        assert run_reseal(services, size=2) == 3
        assert done() == studies
        assert run_reseal(services, size=2) == 0

    def test_functions_may_run_beside(self, services: Services, owner: Principal) -> None:
        studies = [add_study(services, owner, name) for name in NAMES * 8]
        ring = services.once(key_store).names

        def work() -> None:
            for study_id in studies:
                with services.database.tenant(owner.tenant_id) as session:
                    session.get_one(Study, study_id).progress += 1
                add_study(services, owner, "Somebody new")

        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(work)
            services.once(key_store).rotate("names")
            while not working.done():
                run_reseal(services, size=3)
            working.result()
        ring.kept(fresh=True)
        run_reseal(services)
        assert key_ids(services, owner.tenant_id) == {ring.newest.key_id}
        assert names(services, owner.tenant_id) == sorted(NAMES * 8 + ["Somebody new"] * 40)
        with services.database.tenant(owner.tenant_id) as session:
            query = select(Study.progress, func.count()).group_by(Study.progress)
            assert {tuple(row) for row in session.execute(query)} == {(1, 40), (0, 40)}

    def test_a_names_key_stays_while_a_name_needs_it_whatever_its_age(
        self, services: Services, owner: Principal
    ) -> None:
        services.once(key_store).complete()
        add_key(services, "names", timedelta(days=90))
        add_study(services, owner, NAMES[0])
        newest = services.once(key_store).names.newest.key_id
        add_key(services, "names", timedelta(days=80))
        services.once(key_store).rotate("names")
        services.once(key_store).names.kept(fresh=True)
        with pytest.raises(Conflict, match="may be in use until"):
            retire(services, OPERATOR, newest)
        assert [old.needed is None for old in retire(services, OPERATOR)] == [True, False, False]

    def test_keys_that_never_go_and_keys_that_never_were(self, services: Services) -> None:
        store = services.once(key_store)
        store.complete()
        old = store.audit_ring.newest.key_id
        store.rotate("audit")
        with pytest.raises(Conflict, match="whether the log was changed"):
            retire(services, OPERATOR, old)
        with pytest.raises(NotFound, match="hounsfield keys list"):
            retire(services, OPERATOR, "00000000")
        assert retire(services, OPERATOR) == ()
        assert store.audit_ring.get(old) is not None


class TestFileNames:
    """What the sender called the files, which often is the patient's name."""

    def test_they_are_counted_and_sealed_anew_as_names_are(
        self, services: Services, owner: Principal
    ) -> None:
        add_key(services, "names", timedelta(days=90))
        study_id = add_study(services, owner, NAMES[0])
        for name in ("a_t1.nii", "b_t2.nii"):
            add_file(services, owner, study_id, name)
        first = services.once(key_store).names.newest.key_id
        add_key(services, "names", timedelta(days=80))
        (old,) = [old for old in old_keys(services) if old.id == first]
        assert old.needed is not None
        assert "3 names are sealed with it" in old.needed
        before = [(file.id, file.updated_at) for file in files(services, owner)]
        assert run_reseal(services, size=1) == 3
        assert run_reseal(services) == 0
        assert [(file.id, file.updated_at) for file in files(services, owner)] == before
        newest = services.once(key_store).names.newest.key_id
        assert [file.filename_sealed[KEY_ID].hex() for file in files(services, owner)] == [newest] * 2
        assert [old.id for old in retire(services, OPERATOR)] == [first]
        names = services.once(name_ring)
        assert [names.filename(file) for file in files(services, owner)] == ["a_t1.nii", "b_t2.nii"]

    def test_a_key_that_only_a_file_name_needs_stays_until_the_file_is_deleted(
        self, services: Services, owner: Principal
    ) -> None:
        add_key(services, "names", timedelta(days=90))
        study_id = add_study(services, owner, NAMES[0])
        add_file(services, owner, study_id, "a_t1.nii")
        with services.database.tenant(owner.tenant_id) as session:
            session.get_one(Study, study_id).patient_name_sealed = None
        first = services.once(key_store).names.newest.key_id
        add_key(services, "names", timedelta(days=80))
        with pytest.raises(Conflict, match="1 names are sealed with it"):
            retire(services, OPERATOR, first)
        with services.database.tenant(owner.tenant_id) as session:
            session.execute(delete(Study).where(Study.id == study_id))
        assert files(services, owner) == []
        assert [old.needed for old in retire(services, OPERATOR, first)] == [None]

    def test_one_from_before_they_were_sealed_is_read_and_then_sealed(
        self, services: Services, owner: Principal, client_for: Callable[..., TestClient]
    ) -> None:
        study_id = add_study(services, owner, NAMES[0])
        add_file(services, owner, study_id, "", filename="Doe_Jane.nii", filename_sealed=None)
        headers = {"Authorization": f"Bearer {services.once(token_issuer).issue(owner)}"}
        client = client_for(studies.function)

        def shown() -> list[str]:
            answer = client.get(f"/api/studies/{study_id}", headers=headers)
            return [file["filename"] for file in answer.json()["files"]]

        assert shown() == ["Doe_Jane.nii"]
        [before] = files(services, owner)
        assert [batch.count for batch in reseal(services, OPERATOR) if batch.kind == "file"][-1] == 1
        [after] = files(services, owner)
        assert (after.filename, after.updated_at) == (None, before.updated_at)
        assert after.filename_sealed is not None and b"Doe" not in after.filename_sealed
        assert shown() == ["Doe_Jane.nii"]
        assert run_reseal(services) == 0

    def test_one_that_no_key_opens_is_told_of_and_costs_the_name_only(
        self, services: Services, owner: Principal, client_for: Callable[..., TestClient]
    ) -> None:
        study_id = add_study(services, owner, NAMES[0])
        other = services.once(name_ring).seal("of_another_file.nii", uuid7())
        file_id = add_file(services, owner, study_id, "", filename_sealed=other)
        headers = {"Authorization": f"Bearer {services.once(token_issuer).issue(owner)}"}
        with capture_logs() as logs:
            answer = client_for(studies.function).get(f"/api/studies/{study_id}", headers=headers)
        assert answer.json()["files"][0]["filename"] == f"{file_id}.nii"
        assert answer.json()["patient_name"] == NAMES[0]
        assert [line["file_id"] for line in logs if line["log_level"] == "warning"] == [str(file_id)]
        add_key(services, "names", timedelta())
        broken = [(batch.kind, batch.broken) for batch in reseal(services, OPERATOR) if batch.broken]
        assert broken == [("file", (file_id,))]


class TestRecords:
    """What is done to the rings is in the log of every tenant that has one."""

    @pytest.fixture
    def logs(self, services: Services) -> list[UUID]:
        """Two tenants with a log, beside one without."""
        tenants = [make_tenant(services.database) for _ in range(3)]
        for tenant_id in tenants[:2]:
            with unit_of_work(services, tenant_id, OPERATOR) as unit:
                unit.audit("test.first")
        return tenants[:2]

    def test_each_log_has_a_row_for_each_key_and_no_log_is_begun(
        self, services: Services, logs: list[UUID]
    ) -> None:
        changed: list[tuple[RingName, str]] = [("names", "k"), ("root", "l")]
        record(services.database, services.once(key_store).audit_ring, OPERATOR, "keys.rotate", changed)
        for tenant_id in logs:
            _first, *rows = entries(services, tenant_id)
            assert [(row.action, row.details) for row in rows] == [
                ("keys.rotate", {"ring": name, "key": key_id}) for name, key_id in changed
            ]
            assert {(row.credential, row.subject_id) for row in rows} == {("command-line", tenant_id)}
            assert verify_tenant(services, tenant_id).problem is None
        with services.database.system() as session:
            count = session.scalar(select(func.count()).select_from(Tenant))
        assert count == 3

    def test_rows_are_made_with_the_key_that_the_log_uses_for_others_may_not_have_a_newer_one(
        self, services: Services, logs: list[UUID]
    ) -> None:
        (used,) = services.once(key_store).audit_ring.kept()
        (newer,) = services.once(key_store).rotate("audit")
        ring = services.once(key_store).audit_ring
        assert ring.current == newer
        record(services.database, ring, OPERATOR, "keys.rotate", [("audit", newer.id)])
        assert [row.key_id for row in entries(services, logs[0])] == [used.id, used.id]
        with unit_of_work(services, logs[0], OPERATOR) as unit:
            unit.audit("test.last")
        assert entries(services, logs[0])[-1].key_id == newer.id
        assert verify_tenant(services, logs[0]).problem is None

    def test_a_folder_with_other_keys_spoils_no_log_and_retires_nothing(
        self, services: Services, logs: list[UUID], tmp_path: Path
    ) -> None:
        other = Services(
            services.settings.model_copy(update={"keys_dir": tmp_path}), services.database, services.storage
        )
        for age in (2 * SETTLED, timedelta(days=1), timedelta()):
            for ring in RINGS:
                add_key(other, ring, age)
        before = set(tmp_path.iterdir())
        with pytest.raises(Conflict, match="which the key folder lacks"):
            retire(other, OPERATOR)
        assert set(tmp_path.iterdir()) == before
        assert len(entries(services, logs[0])) == 1
        assert verify_tenant(services, logs[0]).problem is None

    def test_a_key_that_is_retired_is_recorded_and_one_that_stays_is_not(
        self, services: Services, logs: list[UUID]
    ) -> None:
        services.once(key_store).complete()
        for age in (3 * SETTLED, 2 * SETTLED, timedelta()):
            add_key(services, "signing", age)
        gone = [old for old in retire(services, OPERATOR) if old.needed is None]
        for tenant_id in logs:
            rows = [row for row in entries(services, tenant_id) if row.action == "keys.retire"]
            assert [row.details for row in rows] == [{"ring": old.ring, "key": old.id} for old in gone]
        assert len(gone) == 1
        retire(services, OPERATOR)
        assert len(entries(services, logs[0])) == 2


class TestLostNames:
    """A name that nothing opens costs the name, not the study."""

    @pytest.mark.parametrize("sealed", [b"", b"x", b"\x01" + bytes(60), b"\x02" + bytes(60)])
    def test_the_study_is_shown_without_it(
        self,
        services: Services,
        client_for: Callable[..., TestClient],
        owner: Principal,
        sealed: bytes,
    ) -> None:
        study_id = add_study(services, owner, sealed)
        client = client_for(studies.function)
        headers = {"Authorization": f"Bearer {services.once(token_issuer).issue(owner)}"}
        for path in (f"/api/studies/{study_id}", f"/api/scans/{study_id}"):
            with capture_logs() as logs:
                answer = client.get(path, headers=headers)
            assert (answer.status_code, answer.json()["patient_name"]) == (200, None)
            warnings = [line for line in logs if line["log_level"] == "warning"]
            assert [line["study_id"] for line in warnings] == [str(study_id)]

    def test_it_is_named_by_a_reseal_and_keeps_its_key(self, services: Services, owner: Principal) -> None:
        good = add_study(services, owner, NAMES[0])
        spoilt = sealed_names(services, owner.tenant_id)[good][:-1] + b"?"
        lost = add_study(services, owner, spoilt)
        add_key(services, "names", timedelta())
        (batch,) = [batch for batch in reseal(services, OPERATOR) if batch.count]
        assert (batch.count, batch.broken) == (1, (lost,))
        assert sealed_names(services, owner.tenant_id)[lost] == spoilt


_REFUSE = """
create or replace function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
create trigger refuse before update on studies for each row when (new.id = '{}') execute function refuse();
"""
