"""Reporting behind the real application, database, storage and bus."""

import io
import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import UUID

import pytest
from pypdf import PdfReader
from sqlalchemy import func, select
from starlette.testclient import TestClient

from functions import reporting, studies
from functions.reporting.service import create_report
from shared.db.models import (
    Artifact,
    InboxEntry,
    InferenceTask,
    OutboxEntry,
    Report,
    Role,
    Study,
    StudyFile,
    StudyStatus,
    TaskState,
)
from shared.db.session import Database
from shared.errors import Unavailable
from shared.events import InferenceCompleted
from shared.ids import uuid7
from shared.runtime import Services
from shared.runtime.postgres_bus import PostgresBus
from shared.runtime.unit import unit_of_work
from shared.security.keys import token_issuer
from shared.security.principal import Principal
from shared.security.sealing import name_ring
from shared.storage.port import ObjectRef
from tests.builders import make_tenant, make_user
from tests.unit.functions.reporting import makers

SECONDS = 10
FORMS = ("html", "json", "pdf")
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Case:
    """A finished task of somebody's study."""

    owner: Principal
    study_id: UUID
    task_id: UUID

    @property
    def prefix(self) -> str:
        return f"{self.owner.tenant_id}/{self.study_id}/results/{self.task_id}/"


Login = Callable[[Principal], dict[str, str]]
Consume = Callable[[], None]


@pytest.fixture
def client(client_for: Callable[..., TestClient]) -> TestClient:
    return client_for(reporting.function, studies.function)


@pytest.fixture
def login(services: Services) -> Login:
    """The headers of somebody who is logged in."""
    return lambda user: {"Authorization": f"Bearer {services.once(token_issuer).issue(user)}"}


@pytest.fixture
def consume(services: Services, database: Database) -> Iterator[Consume]:
    """Start a real consumer of the function, which stops at the end."""
    with ExitStack() as stack:

        def start() -> None:
            consumer = PostgresBus(database).consumer(reporting.function, services)
            consumer.start()
            stack.callback(consumer.stop, SECONDS)

        yield start


@pytest.fixture
def owner(database: Database, tenant_id: UUID) -> Principal:
    return make_user(database, tenant_id)


def finished(services: Services, owner: Principal, study_id: UUID | None = None) -> Case:
    """Store a whole brain MRI result of `owner`, with its overlay."""
    case = Case(owner, study_id or uuid7(), uuid7())
    tenant = {"tenant_id": owner.tenant_id}
    of_task = {**tenant, "task_id": case.task_id, "study_id": case.study_id}
    overlay = services.storage.put("studies", f"{case.prefix}overlay.png", makers.png(), "image/png")
    with services.database.tenant(owner.tenant_id) as session:
        if study_id is None:
            session.add(
                Study(
                    id=case.study_id,
                    owner_id=owner.user_id,
                    kind="brain-mri",
                    patient_id="P-0193",
                    patient_name_sealed=b"sealed",
                    status=StudyStatus.PROCESSING,
                    digest=case.study_id.hex,
                    details={"warnings": ["DOE_JANE.nii.gz has thick slices"]},
                    **tenant,
                )
            )
            session.flush()
            file_id = uuid7()
            session.add(
                StudyFile(
                    id=file_id,
                    study_id=case.study_id,
                    filename_sealed=services.once(name_ring).seal("DOE_JANE.nii.gz", file_id),
                    bucket="studies",
                    key="k",
                    size=1,
                    sha256="0",
                    **tenant,
                )
            )
        session.add(makers.task(id=case.task_id, study_id=case.study_id, user_id=owner.user_id, **tenant))
        session.flush()
        for finding in makers.everything():
            finding.tenant_id, finding.task_id, finding.study_id = (
                owner.tenant_id,
                case.task_id,
                case.study_id,
            )
            session.add(finding)
        session.add(
            Artifact(
                role="overlay",
                media_type="image/png",
                filename="overlay.png",
                **overlay.model_dump(include={"bucket", "key", "version", "size", "sha256"}),
                **of_task,
            )
        )
    return case


def complete(services: Services, case: Case) -> None:
    with unit_of_work(services, case.owner.tenant_id) as unit:
        unit.emit(InferenceCompleted(study_id=case.study_id, task_id=case.task_id))


def reports(services: Services, case: Case) -> list[Report]:
    with services.database.tenant(case.owner.tenant_id) as session:
        return list(session.scalars(select(Report).where(Report.task_id == case.task_id)))


def report_files(services: Services, case: Case) -> dict[str, Artifact]:
    with services.database.tenant(case.owner.tenant_id) as session:
        rows = session.scalars(
            select(Artifact).where(Artifact.task_id == case.task_id, Artifact.role.startswith("report-"))
        )
        return {row.role.removeprefix("report-"): row for row in rows}


def created_events(services: Services) -> list[dict[str, str]]:
    with services.database.system() as session:
        rows = session.scalars(select(OutboxEntry).where(OutboxEntry.type == "hounsfield.report.created"))
        return [row.envelope["data"] for row in rows]


def waiting(services: Services) -> int:
    """Events that the function has not done with."""
    with services.database.system() as session:
        return session.scalar(select(func.count()).where(InboxEntry.state == "pending")) or 0


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(0.02)


def reported(services: Services, consume: Consume, owner: Principal) -> tuple[Case, Report]:
    case = finished(services, owner)
    complete(services, case)
    consume()
    eventually(lambda: reports(services, case), "the report")
    return case, reports(services, case)[0]


def test_a_finished_task_gets_one_report_its_three_files_and_an_event(services, consume, owner) -> None:
    case, report = reported(services, consume, owner)
    assert (report.study_id, report.owner_id, report.title) == (
        case.study_id,
        owner.user_id,
        "Brain MRI report",
    )
    assert created_events(services) == [
        {"study_id": str(case.study_id), "report_id": str(report.id), "task_id": str(case.task_id)}
    ]
    files = report_files(services, case)
    assert sorted(files) == sorted(FORMS)
    for extension, row in files.items():
        assert row.key == f"{case.prefix}report.{extension}"
        stored = services.storage.head("studies", row.key)
        assert (stored.size, stored.sha256) == (row.size, row.sha256)
    assert json.loads(services.storage.read("studies", files["json"].key)) == report.content
    html = services.storage.read("studies", files["html"].key).decode()
    assert "data:image/png;base64," in html and "45.2\u00a0mL" in html
    pdf = PdfReader(io.BytesIO(services.storage.read("studies", files["pdf"].key)))
    assert len(pdf.pages) == 1 and "97.3" in pdf.pages[0].extract_text()


def test_no_file_of_a_report_names_what_the_sender_called_the_files(services, consume, owner) -> None:
    case, _ = reported(services, consume, owner)
    for extension, row in report_files(services, case).items():
        data = services.storage.read("studies", row.key)
        text = data.decode() if extension != "pdf" else PdfReader(io.BytesIO(data)).pages[0].extract_text()
        assert "[file] has thick slices" in re.sub(r"\s+", " ", text)
        assert "DOE" not in text and "sealed" not in text


def test_a_redelivered_event_changes_nothing(services, consume, owner) -> None:
    case, report = reported(services, consume, owner)
    before = {
        name: (row.id, row.sha256, row.updated_at) for name, row in report_files(services, case).items()
    }
    complete(services, case)
    complete(services, case)
    eventually(lambda: waiting(services) == 0, "the events are handled")
    [after] = reports(services, case)
    assert (after.id, after.content, after.updated_at) == (report.id, report.content, report.updated_at)
    files = report_files(services, case)
    assert {name: (row.id, row.sha256, row.updated_at) for name, row in files.items()} == before
    for row in files.values():
        assert services.storage.head("studies", row.key).sha256 == row.sha256
    assert len(created_events(services)) == 1


def test_a_crash_between_storing_and_committing_leaves_no_doubled_rows(
    services, consume, owner, monkeypatch
) -> None:
    case = finished(services, owner)
    put, stored = services.storage.put, []

    def put_then_die(*args: object) -> ObjectRef:
        ref = put(*args)
        stored.append(ref.key.rpartition(".")[2])
        if stored == ["json", "html", "pdf"]:  # all is written, nothing committed
            raise Unavailable("the worker dies here")
        return ref

    monkeypatch.setattr(services.storage, "put", put_then_die)
    complete(services, case)
    consume()
    eventually(lambda: reports(services, case), "the report of the second try")
    assert stored == ["json", "html", "pdf"] * 2
    [report] = reports(services, case)
    files = report_files(services, case)
    assert sorted(files) == sorted(FORMS)
    for row in files.values():
        assert services.storage.head("studies", row.key).sha256 == row.sha256
    assert json.loads(services.storage.read("studies", files["json"].key))["report_id"] == str(report.id)
    assert len(list(services.storage.list_objects("studies", case.prefix + "report"))) == 3
    assert len(created_events(services)) == 1


def test_of_two_workers_at_once_the_second_waits_and_writes_nothing(services, owner) -> None:
    case = finished(services, owner)

    def write() -> None:
        with unit_of_work(services, owner.tenant_id) as unit:
            create_report(unit, case.task_id)

    with ThreadPoolExecutor(1) as second:
        with unit_of_work(services, owner.tenant_id) as first:
            create_report(first, case.task_id)
            late = second.submit(write)
            with pytest.raises(TimeoutError):
                late.result(0.5)
        late.result(SECONDS)
    [report] = reports(services, case)
    stored = services.storage.read("studies", report_files(services, case)["json"].key)
    assert json.loads(stored)["report_id"] == str(report.id)
    assert len(created_events(services)) == 1


def test_the_event_of_a_task_that_is_gone_is_done_with(services, consume, owner) -> None:
    complete(services, Case(owner, uuid7(), uuid7()))
    consume()
    eventually(lambda: waiting(services) == 0, "the event is handled")
    assert created_events(services) == []


def test_a_task_that_has_not_ended_well_gets_no_report(services, consume, owner, database) -> None:
    case = finished(services, owner)
    with database.tenant(owner.tenant_id) as session:
        session.get_one(InferenceTask, case.task_id).state = TaskState.FAILURE
    complete(services, case)
    consume()
    letters = PostgresBus(database).dead_letters
    eventually(letters.list, "the dead letter")
    assert "FAILURE" in letters.list()[0].error
    assert reports(services, case) == []


def test_the_owner_reads_the_report_in_every_form(services, consume, owner, client, login) -> None:
    case, report = reported(services, consume, owner)
    headers = login(owner)
    detail = client.get(f"/api/reports/{report.id}", headers=headers)
    assert detail.status_code == 200
    body = detail.json()
    assert body["content"] == report.content
    assert body["impression"][0].startswith("The images suggest an intracranial tumour, most likely glioma")
    for extension, media_type in (("pdf", "application/pdf"), ("html", "text/html; charset=utf-8")):
        answer = client.get(f"/api/reports/{report.id}/{extension}", headers=headers)
        row = report_files(services, case)[extension]
        assert answer.status_code == 200 and answer.headers["content-type"] == media_type
        assert answer.content == services.storage.read("studies", row.key)
        assert answer.headers["content-length"] == str(row.size)
        assert answer.headers["content-disposition"] == f'inline; filename="report-{report.id}.{extension}"'
        assert answer.headers["etag"] == f'"{row.sha256}"'
        assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none';")
        artifact = client.get(f"/api/studies/{case.study_id}/artifacts/report-{extension}", headers=headers)
        assert artifact.content == answer.content
        for name in ("etag", "content-security-policy", "cache-control", "content-length", "content-type"):
            assert artifact.headers[name] == answer.headers[name]


@pytest.mark.parametrize("form", ["{}", '"other", W/{}', "*"])
def test_a_copy_that_is_current_is_not_sent_again(services, consume, owner, client, login, form: str) -> None:
    _, report = reported(services, consume, owner)
    url = f"/api/reports/{report.id}/pdf"
    etag = client.get(url, headers=login(owner)).headers["etag"]
    again = client.get(url, headers={**login(owner), "If-None-Match": form.format(etag)})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    stale = client.get(url, headers={**login(owner), "If-None-Match": '"stale"'})
    assert stale.status_code == 200 and stale.content.startswith(b"%PDF")


def test_a_report_that_is_not_yours_does_not_exist(services, consume, owner, client, login, database) -> None:
    _, report = reported(services, consume, owner)
    colleague = make_user(database, owner.tenant_id)
    stranger = make_user(database, make_tenant(database), Role.ADMIN)
    for user in (colleague, stranger):
        for path in ("", "/pdf", "/html"):
            answer = client.get(f"/api/reports/{report.id}{path}", headers=login(user))
            assert answer.status_code == 404 and answer.headers["content-type"] == PROBLEM
        assert client.get("/api/reports", headers=login(user)).json() == {"items": [], "next_cursor": None}
    admin = make_user(database, owner.tenant_id, Role.ADMIN)
    assert client.get(f"/api/reports/{report.id}/pdf", headers=login(admin)).status_code == 200
    assert len(client.get("/api/reports", headers=login(admin)).json()["items"]) == 1


def test_reports_are_listed_newest_first_in_pages_and_by_study(
    services, consume, owner, client, login, database
) -> None:
    cases = [finished(services, owner) for _ in range(3)]
    cases.append(finished(services, owner, cases[0].study_id))
    others = finished(services, make_user(database, owner.tenant_id))
    for case in (*cases, others):
        complete(services, case)
        consume() if case is cases[0] else None
        eventually(lambda case=case: reports(services, case), "its report")
    tasks = [str(case.task_id) for case in reversed(cases)]
    first = client.get("/api/reports?limit=3", headers=login(owner))
    assert [item["task_id"] for item in first.json()["items"]] == tasks[:3]
    assert 'rel="next"' in first.headers["link"]
    cursor = first.json()["next_cursor"]
    link = first.headers["link"].removeprefix("<").partition(">")[0]
    assert link.startswith("/api/reports?") and cursor in link  # no host: an ingress has another
    second = client.get(link, headers=login(owner)).json()
    assert [item["task_id"] for item in second["items"]] == tasks[3:] and second["next_cursor"] is None
    of_study = client.get(f"/api/reports?study_id={cases[0].study_id}", headers=login(owner)).json()
    assert [item["task_id"] for item in of_study["items"]] == [str(cases[3].task_id), str(cases[0].task_id)]


def test_without_a_token_nothing_is_told(client) -> None:
    for path in ("", f"/{uuid7()}", f"/{uuid7()}/pdf", f"/{uuid7()}/html"):
        answer = client.get(f"/api/reports{path}")
        assert answer.status_code == 401 and answer.headers["content-type"] == PROBLEM


def test_an_id_that_is_none_is_a_problem_not_a_crash(client, login, owner) -> None:
    assert client.get("/api/reports/none", headers=login(owner)).status_code == 422
    assert client.get(f"/api/reports/{uuid7()}", headers=login(owner)).status_code == 404


def test_a_lost_file_is_a_404_before_anything_is_sent(services, consume, owner, client, login) -> None:
    case, report = reported(services, consume, owner)
    services.storage.delete("studies", f"{case.prefix}report.pdf")
    answer = client.get(f"/api/reports/{report.id}/pdf", headers=login(owner))
    assert answer.status_code == 404 and answer.json()["type"].endswith("object-not-found")


def test_the_routes_are_described(client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert "application/pdf" in paths["/reports/{id}/pdf"]["get"]["responses"]["200"]["content"]
    assert "text/html" in paths["/reports/{id}/html"]["get"]["responses"]["200"]["content"]
    for path in ("/reports/{id}", "/reports/{id}/pdf", "/reports/{id}/html"):
        described = paths[path]["get"]
        assert PROBLEM in described["responses"]["404"]["content"] and described["security"]
