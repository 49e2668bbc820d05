"""Who read or changed which patient's data: what is recorded, and how it is read."""

import csv
import gzip
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from httpx import Response
from sqlalchemy import select, update
from starlette.testclient import TestClient

from functions import reporting, studies, upload
from functions.reporting.service import create_report
from functions.studies.audit.repository import BATCH
from shared.db.models import Artifact, AuditEntry, Report, Role, User
from shared.db.session import Database
from shared.ids import uuid7
from shared.runtime.services import Services
from shared.runtime.unit import unit_of_work
from shared.security.audit import Actor
from shared.security.audit_verify import verify_tenant
from shared.security.keys import token_issuer
from shared.security.principal import Principal
from shared.telemetry.trace import new_traceparent
from tests.builders import make_tenant, make_user, nifti_header, nifti_voxels
from tests.contract.conftest import ClientFor
from tests.contract.test_reporting import Case, finished

PATIENT = "P-0193"


@dataclass(frozen=True)
class Person:
    """Somebody who calls the API."""

    client: TestClient
    principal: Principal
    headers: dict[str, str]

    def get(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None, **query: Any
    ) -> Response:
        answer: Response = self.client.request(
            method, f"/api/{path}", params=query, headers={**self.headers, **(headers or {})}
        )
        return answer

    def audit(self, **query: Any) -> list[dict[str, Any]]:
        answer = self.get("audit", **query)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


MakePerson = Callable[..., Person]


@pytest.fixture
def client(client_for: ClientFor) -> TestClient:
    return client_for(upload.function, studies.function, reporting.function)


@pytest.fixture
def make_person(client: TestClient, services: Services) -> MakePerson:
    def make(tenant: UUID, role: Role = Role.USER) -> Person:
        principal = make_user(services.database, tenant, role)
        token = services.once(token_issuer).issue(principal)
        return Person(client, principal, {"Authorization": f"Bearer {token}"})

    return make


@pytest.fixture
def doctor(make_person: MakePerson, tenant_id: UUID) -> Person:
    return make_person(tenant_id, Role.DOCTOR)


@pytest.fixture
def admin(make_person: MakePerson, tenant_id: UUID) -> Person:
    return make_person(tenant_id, Role.ADMIN)


@pytest.fixture
def case(services: Services, doctor: Person) -> Case:
    """A study of PATIENT with its results and report; its making is no access of a person."""
    case = finished(services, doctor.principal)
    with unit_of_work(services, doctor.principal.tenant_id) as unit:
        create_report(unit, case.task_id)
    assert log_of(services, doctor) == []
    return case


def log_of(services: Services, person: Person) -> list[AuditEntry]:
    """Everything in the log of the person's tenant, oldest first."""
    with services.database.tenant(person.principal.tenant_id) as session:
        return list(session.scalars(select(AuditEntry).order_by(AuditEntry.seq)))


def report_of(services: Services, case: Case) -> UUID:
    with services.database.tenant(case.owner.tenant_id) as session:
        return session.scalars(select(Report.id).where(Report.task_id == case.task_id)).one()


def note(services: Services, person: Person, *actions: str, **fields: Any) -> None:
    """Write entries straight into the log."""
    actor = Actor(person.principal.user_id, "password", fields.pop("address", "192.0.2.1"))
    with unit_of_work(services, person.principal.tenant_id, actor) as unit:
        for action in actions:
            unit.audit(action, **fields)


class TestWhatIsRecorded:
    @pytest.mark.parametrize(
        ("path", "action", "details"),
        [
            ("studies/{study}", "study.read", {}),
            ("scans/{study}", "study.read", {}),
            ("studies/{study}/artifacts", "artifact.list", {}),
            (
                "studies/{study}/artifacts/overlay",
                "artifact.read",
                {"role": "overlay", "artifact": "{overlay}"},
            ),
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_reading_of_a_study(
        self,
        services: Services,
        doctor: Person,
        case: Case,
        path: str,
        action: str,
        details: dict[str, str],
        method: str,
    ) -> None:
        with services.database.tenant(doctor.principal.tenant_id) as session:
            overlay = session.scalars(select(Artifact.id).where(Artifact.role == "overlay")).one()
        assert doctor.get(path.format(study=case.study_id), method).status_code == 200
        [entry] = log_of(services, doctor)
        assert (entry.action, entry.outcome, entry.patient_id) == (action, "success", PATIENT)
        assert (entry.subject_type, entry.subject_id) == ("study", case.study_id)
        assert entry.details == {key: value.format(overlay=overlay) for key, value in details.items()}

    @pytest.mark.parametrize(("path", "form"), [("", "json"), ("/pdf", "pdf"), ("/html", "html")])
    def test_reading_of_a_report_in_each_form(
        self, services: Services, doctor: Person, case: Case, path: str, form: str
    ) -> None:
        report = report_of(services, case)
        assert doctor.get(f"reports/{report}{path}").status_code == 200
        [entry] = log_of(services, doctor)
        assert (entry.action, entry.subject_id, entry.patient_id) == ("report.read", report, PATIENT)
        assert entry.details == {"study": str(case.study_id), "form": form}

    def test_an_answer_that_says_the_copy_is_current(
        self, services: Services, doctor: Person, case: Case
    ) -> None:
        path = f"studies/{case.study_id}/artifacts/overlay"
        etag = doctor.get(path).headers["ETag"]
        assert doctor.get(path, headers={"If-None-Match": etag}).status_code == 304
        assert [entry.action for entry in log_of(services, doctor)] == ["artifact.read"] * 2

    @pytest.mark.parametrize("path", ["studies", "scans"])
    def test_lists_with_what_they_showed(
        self, services: Services, doctor: Person, case: Case, path: str
    ) -> None:
        newer = finished(services, doctor.principal)
        assert doctor.get(path, limit=1).status_code == 200
        [entry] = log_of(services, doctor)
        assert (entry.action, entry.subject_id, entry.patient_id) == ("study.list", None, None)
        assert entry.details == {"studies": [str(newer.study_id)], "patients": [PATIENT]}

    def test_lists_of_reports(self, services: Services, doctor: Person, case: Case) -> None:
        doctor.get("reports")
        [entry] = log_of(services, doctor)
        assert entry.action == "report.list"
        assert entry.details == {
            "reports": [str(report_of(services, case))],
            "studies": [str(case.study_id)],
            "patients": [PATIENT],
        }

    def test_sending_of_a_study_and_sending_it_again(self, services: Services, doctor: Person) -> None:
        volume = gzip.compress(nifti_header() + nifti_voxels())

        def send() -> Response:
            answer: Response = doctor.client.post(
                "/api/process-mri",
                files=[("files", ("flair.nii.gz", volume))],
                data={"patient_id": "P-7", "patient_name": "Jane Doe"},
                headers=doctor.headers,
            )
            return answer

        first, second = send(), send()
        assert (first.status_code, second.status_code) == (202, 200)
        entries = log_of(services, doctor)
        assert [entry.action for entry in entries] == ["study.create", "study.resend"]
        assert [entry.details for entry in entries] == [{"files": 1}, {"started": False}]
        assert {entry.subject_id for entry in entries} == {UUID(first.json()["id"])}
        assert {entry.patient_id for entry in entries} == {"P-7"}

    def test_who_from_where_with_which_credential_in_which_trace(
        self, services: Services, doctor: Person, case: Case
    ) -> None:
        trace = new_traceparent()
        before = datetime.now(UTC)
        doctor.get(f"studies/{case.study_id}", headers={"traceparent": trace})
        [entry] = log_of(services, doctor)
        assert (entry.actor_id, entry.address) == (doctor.principal.user_id, "testclient")
        assert entry.credential is not None and entry.credential.startswith("token:")
        assert entry.trace_id == trace.split("-")[1]
        assert before - timedelta(seconds=5) < entry.at < datetime.now(UTC) + timedelta(seconds=5)

    @pytest.mark.parametrize(
        ("path", "route", "kind"),
        [
            ("studies/{id}", "/studies/{id}", "study"),
            ("scans/{id}/", "/scans/{id}", "study"),
            ("studies/{id}/artifacts/overlay", "/studies/{id}/artifacts/{role}", "study"),
            ("reports/{id}/pdf", "/reports/{id}/pdf", "report"),
        ],
    )
    def test_trying_what_is_somebody_elses_or_nobodys(
        self,
        services: Services,
        make_person: MakePerson,
        doctor: Person,
        case: Case,
        path: str,
        route: str,
        kind: str,
    ) -> None:
        colleague = make_person(doctor.principal.tenant_id)
        somebodys = report_of(services, case) if kind == "report" else case.study_id
        ids = [somebodys, uuid7()]
        answers = [colleague.get(path.format(id=tried)) for tried in ids]
        assert [answer.status_code for answer in answers] == [404, 404]
        entries = log_of(services, doctor)
        assert [(entry.subject_type, entry.subject_id) for entry in entries] == [
            (kind, tried) for tried in ids
        ]
        for entry in entries:
            assert (entry.action, entry.outcome, entry.patient_id) == ("access.refused", "failure", None)
            assert entry.details == {"method": "GET", "route": route, "status": 404}
            assert (entry.actor_id, entry.address) == (colleague.principal.user_id, "testclient")

    def test_what_another_tenant_has_is_recorded_where_the_caller_is(
        self, services: Services, make_person: MakePerson, doctor: Person, case: Case
    ) -> None:
        stranger = make_person(make_tenant(services.database), Role.ADMIN)
        for path in (f"studies/{case.study_id}", f"users/{doctor.principal.user_id}"):
            assert stranger.get(path).status_code == 404
        assert log_of(services, doctor) == []
        found = [(entry.subject_type, entry.subject_id) for entry in log_of(services, stranger)]
        assert found == [("study", case.study_id), ("user", doctor.principal.user_id)]

    def test_what_the_role_does_not_allow(self, services: Services, doctor: Person) -> None:
        somebody = uuid7()
        for path, method in (("audit", "GET"), ("users", "GET"), (f"users/{somebody}", "DELETE")):
            assert doctor.get(path, method).status_code == 403
        assert doctor.get("users/no-id").status_code == 403
        entries = log_of(services, doctor)
        assert {(entry.action, entry.outcome) for entry in entries} == {("access.refused", "failure")}
        assert [(entry.details["method"], entry.details["route"]) for entry in entries] == [
            ("GET", "/audit"),
            ("GET", "/users"),
            ("DELETE", "/users/{id}"),
            ("GET", "/users/{id}"),
        ]
        assert [entry.subject_id for entry in entries] == [None, None, somebody, None]
        assert {entry.details["status"] for entry in entries} == {403}

    def test_what_the_scopes_of_an_api_key_do_not_allow(self, services: Services, doctor: Person) -> None:
        made = doctor.client.post(
            "/api/auth/api-keys", json={"name": "k", "scopes": ["account:read"]}, headers=doctor.headers
        ).json()
        key = {"X-API-Key": made["key"]}
        assert doctor.client.get("/api/studies", headers=key).status_code == 403
        sent = doctor.client.post(
            "/api/process-mri", files=[("files", ("t1.nii", b"never read"))], headers=key
        )
        assert sent.status_code == 403
        _, *refused = log_of(services, doctor)
        assert [entry.details["route"] for entry in refused] == ["/studies", "/process-mri"]
        assert {entry.credential for entry in refused} == {f"api-key:{made['id']}"}

    def test_who_nobody_knows_leaves_no_row(self, services: Services, doctor: Person, case: Case) -> None:
        assert doctor.client.get(f"/api/studies/{case.study_id}").status_code == 401
        assert doctor.get("no-such-route").status_code == 404
        assert log_of(services, doctor) == []

    def test_many_refusals_at_once_do_not_wait_for_each_others_connections(
        self, services: Services, database_url: str, doctor: Person
    ) -> None:
        """Each needs a second transaction, after the first has given its connection back."""
        count = 20
        services.database = Database(database_url, pool_size=1)
        with ThreadPoolExecutor(count) as pool:
            answers = list(pool.map(lambda _: doctor.get(f"studies/{uuid7()}").status_code, range(count)))
        assert answers == [404] * count
        assert len(log_of(services, doctor)) == count
        services.database.close()

    def test_changes_that_people_make_to_themselves(self, services: Services, doctor: Person) -> None:
        def change(**fields: str) -> None:
            for path, method in (("auth/me", "PATCH"), ("user/settings", "PUT")):
                answer = doctor.client.request(method, f"/api/{path}", json=fields, headers=doctor.headers)
                assert answer.status_code == 200

        change(title="Consultant", phone="1")
        [entry] = log_of(services, doctor)  # the second time nothing changed
        assert (entry.action, entry.outcome) == ("user.update", "success")
        assert (entry.subject_type, entry.subject_id) == ("user", doctor.principal.user_id)
        assert entry.details == {"fields": ["phone", "title"]}

    def test_the_chain_of_it_all_is_good(self, services: Services, doctor: Person, case: Case) -> None:
        for path in (
            "studies",
            f"studies/{case.study_id}",
            "reports",
            f"reports/{report_of(services, case)}",
        ):
            doctor.get(path)
        verdict = verify_tenant(services, doctor.principal.tenant_id)
        assert (verdict.good, verdict.problem) == (4, None)


class TestReading:
    def test_an_entry_is_shown_whole(
        self, services: Services, doctor: Person, admin: Person, case: Case
    ) -> None:
        doctor.get(f"studies/{case.study_id}")
        [row] = log_of(services, doctor)
        [shown] = admin.audit()
        assert shown == {
            "id": str(row.id),
            "seq": 1,
            "at": row.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "actor_id": str(doctor.principal.user_id),
            "actor": f"user-{doctor.principal.user_id.hex}",
            "credential": row.credential,
            "address": "testclient",
            "action": "study.read",
            "outcome": "success",
            "subject_type": "study",
            "subject_id": str(case.study_id),
            "patient_id": PATIENT,
            "trace_id": row.trace_id,
            "details": {},
            "key_id": row.key_id,
            "hash": row.hash.hex(),
        }

    def test_reading_it_is_recorded_too(self, services: Services, admin: Person) -> None:
        admin.audit(patient_id="P-1", limit=10)
        admin.get("audit", format="csv", action="auth.")
        read, exported = log_of(services, admin)
        assert (read.action, read.details) == ("audit.read", {"filters": {"patient_id": "P-1"}, "count": 0})
        assert (exported.action, exported.details) == ("audit.export", {"filters": {"action": "auth."}})

    def test_people_who_were_removed_and_the_platform_have_no_name(
        self, services: Services, doctor: Person, admin: Person
    ) -> None:
        note(services, doctor, "test.person")
        with unit_of_work(services, doctor.principal.tenant_id) as unit:
            unit.audit("test.platform")
            unit.session.execute(
                update(User).where(User.id == doctor.principal.user_id).values(deleted_at=datetime.now(UTC))
            )
        shown = [(entry["actor_id"], entry["actor"]) for entry in admin.audit(action="test.")]
        assert shown == [(None, None), (str(doctor.principal.user_id), None)]

    def test_pages_hold_everything_once_newest_first(
        self, services: Services, doctor: Person, admin: Person
    ) -> None:
        note(services, doctor, *(f"test.{number}" for number in range(7)))
        seqs: list[int] = []
        answer = admin.get("audit", limit=3, action="test.")
        while True:
            seqs += [entry["seq"] for entry in answer.json()["items"]]
            if "Link" not in answer.headers:
                break
            url = answer.headers["Link"].partition(">")[0].removeprefix("</api/")
            answer = admin.client.get(f"/api/{url}", headers=admin.headers)
        assert seqs == [7, 6, 5, 4, 3, 2, 1]

    def test_after_a_cursor_that_is_none_there_is_nothing(self, services: Services, admin: Person) -> None:
        note(services, admin, "test.one")
        assert admin.audit(cursor=uuid7()) == []

    def test_only_administrators_read_it_and_only_their_own_tenants(
        self, services: Services, make_person: MakePerson, doctor: Person, admin: Person
    ) -> None:
        note(services, doctor, "test.one")
        assert doctor.get("audit").status_code == 403
        assert doctor.client.get("/api/audit").status_code == 401
        stranger = make_person(make_tenant(services.database), Role.ADMIN)
        assert stranger.audit() == []
        assert stranger.audit(actor_id=doctor.principal.user_id) == []
        assert stranger.get("audit", format="csv", action="test.").text.count("\n") == 1


class TestFilters:
    @pytest.fixture
    def filled(self, services: Services, doctor: Person, admin: Person, case: Case) -> Case:
        """The doctor lists studies, reads one and its report; a log-in fails elsewhere."""
        doctor.get("studies")
        doctor.get(f"studies/{case.study_id}")
        doctor.get(f"reports/{report_of(services, case)}")
        note(services, admin, "auth.login", outcome="failure", address="2001:db8::1")
        return case

    @pytest.mark.parametrize(
        ("query", "actions"),
        [
            ({"action": "study.read"}, ["study.read"]),
            ({"action": "study."}, ["study.read", "study.list"]),
            ({"action": "study"}, []),
            ({"action": "stud_."}, []),
            ({"patient_id": PATIENT}, ["report.read", "study.read", "study.list"]),
            ({"patient_id": "P-0"}, []),
            ({"outcome": "failure"}, ["auth.login"]),
            ({"address": "2001:db8::1"}, ["auth.login"]),
            ({"outcome": "success", "action": "auth."}, []),
            ({"actor_id": uuid7()}, []),
            ({"subject_id": uuid7()}, []),
        ],
    )
    def test_let_through_what_fits_all(
        self, admin: Person, filled: Case, query: dict[str, Any], actions: Sequence[str]
    ) -> None:
        assert [entry["action"] for entry in admin.audit(**query)] == actions

    def test_by_actor(self, admin: Person, doctor: Person, filled: Case) -> None:
        assert {entry["actor_id"] for entry in admin.audit(actor_id=doctor.principal.user_id)} == {
            str(doctor.principal.user_id)
        }

    def test_a_subject_is_found_in_lists_and_beside_other_subjects_too(
        self, admin: Person, filled: Case
    ) -> None:
        found = [entry["action"] for entry in admin.audit(subject_id=filled.study_id)]
        assert found == ["report.read", "study.read", "study.list"]

    def test_by_time(self, admin: Person, filled: Case) -> None:
        newest_first = admin.audit(limit=4)
        moment = newest_first[1]["at"]
        assert [entry["seq"] for entry in admin.audit(until=moment)] == [2, 1]
        assert [entry["seq"] for entry in admin.audit(since=moment, action="report.")] == [3]
        assert admin.audit(since="2999-01-01T00:00:00+05:30") == []
        assert admin.audit(since="1010-11-01T17:32:04-17:36"), "an offset that PostgreSQL does not take"

    @pytest.mark.parametrize(
        "query",
        [
            {"since": "2026-01-01T00:00:00"},
            {"since": "2026-01-01"},
            {"until": "1700000000"},
            {"until": "2026-13-01T00:00:00Z"},
            {"since": "0001-01-01T00:00:00+00:01"},
            {"patient_id": "Jane Doe"},
            {"action": "study%"},
            {"actor_id": "anna"},
            {"outcome": "maybe"},
            {"address": "a b"},
            {"format": "xml"},
        ],
    )
    def test_that_make_no_sense_are_refused_and_not_recorded(
        self, services: Services, admin: Person, query: dict[str, str]
    ) -> None:
        answer = admin.get("audit", **query)
        assert (answer.status_code, answer.headers["Content-Type"]) == (422, "application/problem+json")
        assert next(iter(query)) in answer.json()["detail"]
        assert log_of(services, admin) == []


class TestCsv:
    @pytest.mark.parametrize(
        ("query", "headers"),
        [({"format": "csv"}, {}), ({}, {"Accept": "text/csv"})],
        ids=["format", "Accept"],
    )
    def test_is_one_file_of_everything_that_fits(
        self, services: Services, admin: Person, query: dict[str, str], headers: dict[str, str]
    ) -> None:
        count = 2 * BATCH
        note(services, admin, *(["test.many"] * count), "other.one", details={"studies": ["a", "b"]})
        answer = admin.get("audit", headers=headers, action="test.", **query)
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert answer.headers["Content-Disposition"].startswith('attachment; filename="audit-')
        lines = list(csv.DictReader(StringIO(answer.text, newline="")))
        assert [int(line["seq"]) for line in lines] == list(range(count, 0, -1))
        [shown] = admin.audit(action="test.", limit=1)[:1]
        assert {name: value for name, value in lines[0].items() if name != "details"} == {
            name: "" if value is None else str(value) for name, value in shown.items() if name != "details"
        }
        assert lines[0]["details"] == '{"studies": ["a", "b"]}'

    def test_json_is_what_comes_without_asking(self, admin: Person) -> None:
        assert admin.get("audit", headers={"Accept": "*/*"}).headers["Content-Type"] == "application/json"
        both = admin.get("audit", headers={"Accept": "text/csv"}, format="json")
        assert both.headers["Content-Type"] == "application/json"

    @pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
    def test_no_cell_is_a_formula(self, services: Services, doctor: Person, admin: Person, name: str) -> None:
        note(services, doctor, "test.one", patient_id=name)
        with services.database.tenant(admin.principal.tenant_id) as session:
            session.execute(update(User).where(User.id == doctor.principal.user_id).values(username=name))
        [line] = csv.DictReader(StringIO(admin.get("audit", format="csv", action="test.").text, newline=""))
        assert (line["actor"], line["patient_id"]) == (f"'{name}", f"'{name}")
