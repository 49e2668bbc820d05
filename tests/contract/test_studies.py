"""Studies: found, changed, fetched, decided about and deleted."""

import hashlib
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text
from structlog.testing import capture_logs

from functions.ingest.service import forget
from shared.db.base import Base
from shared.db.models import (
    Case,
    DicomInstance,
    DicomSeries,
    FileRole,
    IncomingObject,
    Role,
    Study,
    StudyFile,
    Upload,
)
from shared.ids import uuid7
from shared.incoming import key_hash, version_of
from shared.runtime.services import Services
from shared.runtime.unit import unit_of_work
from shared.security.ring_upkeep import SEALED
from shared.security.sealing import name_ring
from tests.builders import make_tenant
from tests.contract.clinic import PATIENT, VOXELS, MakePerson, Person
from tests.integration.victims import make_victim

NAME = "Jane Doe, second look"
PROBLEM = "application/problem+json"


class TestList:
    def test_is_filtered_by_everything_at_once(self, doctor: Person) -> None:
        case_id = doctor.add_case()
        wanted = doctor.add_study("oct", case_id=case_id, status="completed")
        doctor.add_study("ct", case_id=case_id, status="completed")
        doctor.add_study("oct", status="completed")
        doctor.add_study("oct", case_id=case_id, status="rejected")
        doctor.add_study("oct", case_id=case_id, status="completed", patient_id="P-2")
        query = f"kind=oct&status=completed&patient_id={PATIENT}&case_id={case_id}"
        assert doctor.listed(f"studies?{query}") == [str(wanted)]
        assert len(doctor.listed("studies")) == 5

    def test_is_filtered_by_when_it_was_sent(self, doctor: Person) -> None:
        days = {
            day: str(doctor.add_study(created_at=datetime(2026, 3, day, tzinfo=UTC))) for day in (1, 2, 3)
        }
        assert doctor.listed("studies?created_after=2026-03-01T12:00:00Z") == [days[3], days[2]]
        assert doctor.listed("studies?created_before=2026-03-02T00:00:00Z") == [days[1]]
        both = "created_after=2026-03-01T00:00:00Z&created_before=2026-03-03T00:00:00Z"
        assert doctor.listed(f"studies?{both}") == [days[2]]

    def test_is_sorted_as_asked_over_all_pages(self, doctor: Person) -> None:
        dates = [date(2026, 1, 2), None, date(2026, 1, 1), date(2026, 1, 2), None]
        ids = [str(doctor.add_study(scan_date=day)) for day in dates]
        oldest_first = [ids[1], ids[4], ids[2], ids[0], ids[3]]
        assert doctor.listed("studies?limit=2&sort=scan_date") == oldest_first
        assert doctor.listed("studies?limit=2&sort=-scan_date") == oldest_first[::-1]
        assert doctor.listed("studies?limit=2") == ids[::-1]
        doctor.ask("PATCH", f"studies/{ids[2]}", {"name": "the newest change"})
        assert doctor.listed("studies?limit=2&sort=-updated_at")[0] == ids[2]

    @pytest.mark.parametrize(
        "query",
        ["kind=mri", "status=done", "patient_id=Jane%20Doe", "case_id=7", "created_after=today", "sort=name"],
    )
    def test_what_cannot_be_filtered_by_is_refused(self, doctor: Person, query: str) -> None:
        assert doctor.get(f"studies?{query}").status_code == 422

    def test_shows_names_and_what_is_held_and_that_a_kind_is_not_known_yet(self, doctor: Person) -> None:
        doctor.add_study(None, NAME, status="receiving", held=["text is burnt into the images"])
        [study] = doctor.get("studies").json()["items"]
        assert (study["name"], study["kind"]) == (NAME, None)
        assert study["held"] == ["text is burnt into the images"]
        assert (study["patient_id_source"], study["case_id"]) == ("given", None)


class TestChange:
    def test_what_is_sent_is_set_and_null_clears(self, doctor: Person) -> None:
        study_id = doctor.add_study(scan_date=date(2026, 1, 1), patient_id_source="generated")
        change = {"name": f" {NAME} ", "patientId": "P-2", "scanDate": "2026-03-05"}
        answer = doctor.ask("PATCH", f"studies/{study_id}", change)
        assert answer.status_code == 200, answer.text
        study = answer.json()
        assert (study["name"], study["patient_id"], study["scan_date"]) == (NAME, "P-2", "2026-03-05")
        assert study["patient_id_source"] == "given"
        assert answer.headers["etag"] == doctor.get(f"studies/{study_id}").headers["etag"]
        cleared = doctor.ask("PATCH", f"studies/{study_id}", {"name": None, "scan_date": None}).json()
        assert (cleared["name"], cleared["scan_date"], cleared["patient_id"]) == (None, None, "P-2")

    def test_a_state_that_is_past_is_refused(self, doctor: Person) -> None:
        study_id = doctor.add_study()
        etag = doctor.get(f"studies/{study_id}").headers["etag"]
        assert doctor.ask("PATCH", f"studies/{study_id}", {"name": "1"}, If_Match=etag).status_code == 200
        late = doctor.ask("PATCH", f"studies/{study_id}", {"name": "2"}, If_Match=etag)
        assert (late.status_code, late.headers["content-type"]) == (412, PROBLEM)
        assert doctor.get(f"studies/{study_id}").json()["name"] == "1"

    @pytest.mark.parametrize(
        "wrong",
        [
            {"patient_id": None},
            {"patient_id": "Jane Doe"},
            {"name": ""},
            {"name": "two\nlines"},
            {"name": "x" * 256},
            {"scan_date": "05.03.2026"},
            {"case_id": "7"},
            {"case_id": str(UUID(int=7))},
            [],
        ],
    )
    def test_what_is_wrong_is_refused_and_not_repeated(self, doctor: Person, wrong: Any) -> None:
        study_id = doctor.add_study()
        answer = doctor.ask("PATCH", f"studies/{study_id}", wrong)
        assert answer.status_code == 422
        assert "Jane" not in answer.text
        assert doctor.row(study_id).patient_id == PATIENT

    def test_the_name_is_sealed_at_rest_and_in_no_log_event_or_audit_row(
        self, doctor: Person, services: Services
    ) -> None:
        study_id = doctor.add_study("slide")
        doctor.add_file(study_id, FileRole.SLIDE)
        with capture_logs() as logs:
            doctor.ask("PATCH", f"studies/{study_id}", {"name": NAME})
            doctor.ask("PATCH", f"slides/{study_id}", {"name": NAME})
            assert doctor.get(f"studies/{study_id}").json()["name"] == NAME
            doctor.get("slides")
        study = doctor.row(study_id)
        assert services.once(name_ring).open(study.name_sealed, study_id) == NAME
        entries = [
            str(entry.details)
            for action in ("study.update", "study.read")
            for entry in doctor.audited(action)
        ]
        assert len(entries) == 3
        with services.database.engine.connect() as connection:
            rows = [
                str(row)
                for table in Base.metadata.sorted_tables
                for row in connection.execute(select(table))
                if table.name != "users"
            ]
        for hay in (*entries, *rows, str(logs), str(doctor.events())):
            assert "Jane" not in hay and "Doe" not in hay

    def test_a_change_is_in_the_audit_log_by_the_names_of_fields(self, doctor: Person, admin: Person) -> None:
        study_id = doctor.add_study()
        admin.ask("PATCH", f"studies/{study_id}", {"name": NAME, "patient_id": "P-2"})
        [entry] = doctor.audited("study.update")
        assert (entry.actor_id, entry.subject_id) == (admin.principal.user_id, study_id)
        assert entry.patient_id == "P-2"
        assert entry.details == {"fields": ["name", "patient_id"], "former_patient": PATIENT}


class TestCaseOfAStudy:
    def test_a_study_is_put_into_a_case_of_its_patient_and_taken_out(self, doctor: Person) -> None:
        case_id, study_id = doctor.add_case(), doctor.add_study()
        url = f"studies/{study_id}"
        assert doctor.ask("PATCH", url, {"case_id": str(case_id)}).json()["case_id"] == str(case_id)
        assert doctor.ask("PATCH", url, {"case_id": None}).json()["case_id"] is None

    def test_a_pseudonym_that_was_made_up_gives_way_to_the_cases(self, doctor: Person) -> None:
        case_id = doctor.add_case(patient_id="P-9")
        study_id = doctor.add_study(patient_id="PAT-MADEUP22", patient_id_source="generated")
        study = doctor.ask("PATCH", f"studies/{study_id}", {"caseId": str(case_id)}).json()
        assert (study["patient_id"], study["patient_id_source"]) == ("P-9", "given")

    @pytest.mark.parametrize("source", ["given", "dicom"])
    def test_a_case_of_another_patient_is_refused_unless_that_is_said(
        self, doctor: Person, source: str
    ) -> None:
        case_id = doctor.add_case(patient_id="P-9")
        url = f"studies/{doctor.add_study(patient_id_source=source)}"
        refused = doctor.ask("PATCH", url, {"case_id": str(case_id)})
        assert (refused.status_code, refused.json()["title"]) == (409, "Conflict")
        assert doctor.get(url).json()["case_id"] is None
        agreed = doctor.ask("PATCH", url, {"case_id": str(case_id), "patient_id": "P-9"})
        assert agreed.json()["patient_id"] == "P-9"
        assert doctor.ask("PATCH", url, {"patient_id": PATIENT}).status_code == 409
        assert doctor.ask("PATCH", url, {"patient_id": "P-9"}).status_code == 200
        moved_out = doctor.ask("PATCH", url, {"patient_id": PATIENT, "case_id": None})
        assert (moved_out.status_code, moved_out.json()["patient_id"]) == (200, PATIENT)

    def test_a_case_of_somebody_else_is_none(self, doctor: Person, colleague: Person) -> None:
        theirs, study_id = colleague.add_case(), doctor.add_study()
        answer = doctor.ask("PATCH", f"studies/{study_id}", {"case_id": str(theirs)})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "case_id"


def held(person: Person, reasons: list[str] | None = None, **values: Any) -> UUID:
    """A study that waits for a person, its file in the drop-box."""
    fields = {"status": "receiving", "step": "held", "held": reasons or ["burnt-in text"], "digest": None}
    study_id = person.add_study("ct", **{**fields, **values})
    file_id = person.add_file(study_id, FileRole.RECEIVED, "DOE.dcm", bucket="incoming", sha256=None)
    with person.services.database.tenant(person.principal.tenant_id) as session:
        ref = person.services.storage.head("incoming", session.get_one(StudyFile, file_id).key)
        taken = {"version": version_of(ref), "bucket": "incoming", "size": ref.size, "study_id": study_id}
        session.add(IncomingObject(tenant_id=person.principal.tenant_id, key_hash=key_hash(ref.key), **taken))
    return study_id


class TestRelease:
    def test_a_released_study_goes_on_from_the_beginning(self, doctor: Person) -> None:
        study_id = held(doctor, ["burnt-in text", "secondary capture"])
        answer = doctor.ask("POST", f"studies/{study_id}/release", {"decision": "release"})
        assert answer.status_code == 200, answer.text
        assert (answer.json()["status"], answer.json()["step"]) == ("receiving", "received")
        assert answer.json()["held"] is None
        study = doctor.row(study_id)
        assert study.released_by == doctor.principal.user_id
        with doctor.services.database.tenant(doctor.principal.tenant_id) as session:
            assert session.scalar(select(func.count()).where(Study.held.is_not(None))) == 0
            assert session.scalars(select(StudyFile.role)).all() == ["received"]
        assert doctor.events() == [
            {
                "type": "hounsfield.upload.completed",
                "upload_id": str(study_id),
                "study_id": str(study_id),
                "kind": "ct",
            }
        ]
        [entry] = doctor.audited("study.release")
        assert (entry.subject_id, entry.patient_id) == (study_id, PATIENT)
        assert entry.details == {"decision": "release", "reasons": 2}
        assert doctor.get(f"studies/{study_id}").json()["released_by"] == str(doctor.principal.user_id)

    def test_a_rejected_one_leaves_no_file_and_its_reason_stays_with_it(
        self, doctor: Person, services: Services
    ) -> None:
        study_id = held(doctor)
        rejection = {"decision": "reject", "reason": "shows Jane Doe's name"}
        answer = doctor.ask("POST", f"studies/{study_id}/release", rejection)
        assert (answer.json()["status"], answer.json()["message"]) == ("rejected", "shows Jane Doe's name")
        assert answer.json()["held"] is None
        [event] = doctor.events()
        assert (event["type"], event["study_id"]) == ("hounsfield.study.rejected", str(study_id))
        with unit_of_work(services, doctor.principal.tenant_id) as unit:
            forget(unit, study_id)  # what ingest does on that event
        assert doctor.get(f"studies/{study_id}").json()["files"] == []
        assert list(services.storage.list_objects("incoming")) == []
        assert "Jane" not in str(event) and "Jane" not in str(doctor.audited("study.release")[0].details)

    def test_without_a_reason_it_says_that_a_person_rejected_it(self, doctor: Person) -> None:
        study_id = held(doctor)
        answer = doctor.ask("POST", f"studies/{study_id}/release", {"decision": "reject", "reason": " "})
        assert "a person" in answer.json()["message"]

    @pytest.mark.parametrize(
        "values",
        [
            {"held": None},
            {"status": "ingested"},
            {"status": "rejected"},
        ],
    )
    def test_one_that_is_not_held_is_a_conflict(self, doctor: Person, values: dict[str, Any]) -> None:
        study_id = held(doctor, **values)
        for decision in ("release", "reject"):
            answer = doctor.ask("POST", f"studies/{study_id}/release", {"decision": decision})
            assert (answer.status_code, answer.json()["title"]) == (409, "Conflict")
        assert doctor.events() == []

    def test_it_is_decided_once(self, doctor: Person) -> None:
        study_id = held(doctor)
        url, body = f"studies/{study_id}/release", {"decision": "release"}
        assert [doctor.ask("POST", url, body).status_code for _ in range(2)] == [200, 409]
        assert len(doctor.events()) == 1

    @pytest.mark.parametrize("wrong", [{}, {"decision": "maybe"}, {"decision": "reject", "reason": 5}])
    def test_what_is_no_decision_is_refused(self, doctor: Person, wrong: dict[str, Any]) -> None:
        assert doctor.ask("POST", f"studies/{held(doctor)}/release", wrong).status_code == 422

    def test_an_administrator_may_decide_a_colleague_may_not(
        self, doctor: Person, colleague: Person, admin: Person
    ) -> None:
        url, body = f"studies/{held(doctor)}/release", {"decision": "release"}
        assert colleague.ask("POST", url, body).status_code == 404
        assert admin.ask("POST", url, body).status_code == 200


class TestFiles:
    def test_a_study_tells_where_its_files_are_and_what_ingest_found(self, doctor: Person) -> None:
        details = {"modalities": ["t1"], "series": [{"number": 3, "reason": "T1"}], "warnings": ["a gap"]}
        study_id = doctor.add_study("brain-mri", NAME, details=details)
        file_id = doctor.add_file(study_id, modality="t1")
        study = doctor.get(f"studies/{study_id}").json()
        assert study["ingest"] == details
        assert study["modalities"] == ["t1"]
        [file] = study["files"]
        assert (file["role"], file["url"]) == ("volume", f"/api/studies/{study_id}/files/{file_id}")
        assert file["filename"] == "DOE_JANE.nii.gz"

    @pytest.mark.parametrize(
        ("role", "filename", "values", "saved_as"),
        [
            (FileRole.VOLUME, "DOE.nii.gz", {"modality": "t1ce"}, "volume-t1ce.nii.gz"),
            (FileRole.BSCANS, "DOE.npz", {}, "bscans-1.npz"),
            (FileRole.FUNDUS, "DOE.png", {"media_type": "image/png"}, "fundus-1.png"),
            (FileRole.VOLUME, "DOE", {}, "volume-1.bin"),
        ],
    )
    def test_a_file_is_fetched_under_a_name_that_tells_nothing(
        self, doctor: Person, role: FileRole, filename: str, values: dict[str, str], saved_as: str
    ) -> None:
        study_id = doctor.add_study("oct")
        file_id = doctor.add_file(study_id, role, filename, **values)
        answer = doctor.get(f"studies/{study_id}/files/{file_id}")
        assert (answer.status_code, answer.content) == (200, VOXELS)
        assert answer.headers["etag"] == f'"{hashlib.sha256(VOXELS).hexdigest()}"'
        assert answer.headers["content-disposition"] == f'inline; filename="study-{study_id}-{saved_as}"'
        assert answer.headers["content-type"] == values.get("media_type", "application/octet-stream")
        assert answer.headers["accept-ranges"] == "bytes"
        assert "sandbox" in answer.headers["content-security-policy"]
        again = doctor.get(f"studies/{study_id}/files/{file_id}", If_None_Match=answer.headers["etag"])
        assert (again.status_code, again.content) == (304, b"")
        [first, _] = doctor.audited("file.read")
        assert (first.subject_id, first.patient_id) == (study_id, PATIENT)
        assert first.details == {"file": str(file_id), "role": role}

    def test_a_part_of_it_is_fetched(self, doctor: Person) -> None:
        study_id = doctor.add_study()
        url = f"studies/{study_id}/files/{doctor.add_file(study_id)}"
        part = doctor.get(url, Range="bytes=100-355")
        assert (part.status_code, part.content) == (206, VOXELS[100:356])
        assert part.headers["content-range"] == f"bytes 100-355/{len(VOXELS)}"
        beyond = doctor.get(url, Range=f"bytes={len(VOXELS)}-")
        assert (beyond.status_code, beyond.headers["content-type"]) == (416, PROBLEM)

    def test_what_was_received_is_served_to_nobody(self, doctor: Person, admin: Person) -> None:
        study_id = doctor.add_study(status="receiving")
        file_id = doctor.add_file(study_id, FileRole.RECEIVED)
        for person in (doctor, admin):
            assert person.get(f"studies/{study_id}").json()["files"][0]["url"] is None
            assert person.get(f"studies/{study_id}/files/{file_id}").status_code == 404

    def test_an_original_is_served_to_administrators_only(self, doctor: Person, admin: Person) -> None:
        study_id = doctor.add_study()
        url = f"studies/{study_id}/files/{doctor.add_file(study_id, FileRole.ORIGINAL)}"
        assert doctor.get(f"studies/{study_id}").json()["files"][0]["url"] is None
        assert doctor.get(url).status_code == 404
        assert admin.get(f"studies/{study_id}").json()["files"][0]["url"] == f"/api/{url}"
        assert admin.get(url).content == VOXELS

    def test_a_slide_is_served_by_the_store_itself(self, doctor: Person) -> None:
        study_id = doctor.add_study("slide", NAME)
        file_id = doctor.add_file(study_id, FileRole.SLIDE, "DOE.svs")
        answer = doctor.get(f"studies/{study_id}/files/{file_id}")
        assert answer.status_code == 307
        place = answer.headers["location"]
        assert f"study-{study_id}-slide-1.svs" in place and "DOE" not in place
        fetched = doctor.client.get(place)
        assert (fetched.status_code, fetched.content) == (200, VOXELS)
        assert doctor.audited("file.read")[0].details["role"] == "slide"

    def test_a_file_is_found_under_its_own_study_only(self, doctor: Person, colleague: Person) -> None:
        mine, other = doctor.add_study(), doctor.add_study()
        file_id = doctor.add_file(other)
        assert doctor.get(f"studies/{mine}/files/{file_id}").status_code == 404
        assert colleague.get(f"studies/{other}/files/{file_id}").status_code == 404
        assert doctor.get(f"studies/{other}/files/{uuid7()}").status_code == 404


def test_series_are_listed_with_why_one_was_chosen(doctor: Person) -> None:
    study_id = doctor.add_study()
    tenant = {"tenant_id": doctor.principal.tenant_id}
    with doctor.services.database.tenant(doctor.principal.tenant_id) as session:
        for number, images in ((2, 0), (1, 3)):
            series = DicomSeries(
                id=uuid7(),
                study_id=study_id,
                study_uid="2.25.1",
                series_uid=f"2.25.{number}",
                modality="CT",
                number=number,
                attributes={"00080060": {"vr": "CS", "Value": ["CT"]}},
                bucket="studies",
                key=f"k{number}",
                size=10,
                chosen=number == 1,
                reason="original axial CT" if number == 1 else "is a scout (LOCALIZER)",
                **tenant,
            )
            session.add(series)
            session.flush()
            facts = {"sop_class": "1", "transfer_syntax": "1", "frames": 1, "header_bytes": 1, "size": 1}
            for n in range(images):
                session.add(
                    DicomInstance(series_id=series.id, sop_uid=f"2.25.9{n}", offset=n, **facts, **tenant)
                )
    series = doctor.get(f"studies/{study_id}/series").json()
    told = [(one["number"], one["modality"], one["images"], one["chosen"], one["reason"]) for one in series]
    assert told == [
        (1, "CT", 3, True, "original axial CT"),
        (2, "CT", 0, False, "is a scout (LOCALIZER)"),
    ]
    assert doctor.audited("series.list")[0].patient_id == PATIENT


def of_study(services: Services, tenant_id: UUID, ids: set[UUID]) -> dict[str, int]:
    """Table → how many of its rows name one of these ids, of tables that tell of things."""
    found = {}
    with services.database.tenant(tenant_id) as session:
        for table in Base.metadata.sorted_tables:
            if "tenant_id" not in table.c or table.name in {"audit_log", "audit_heads", "outbox", "inbox"}:
                continue
            rows = session.execute(select(table)).mappings().all()
            found[str(table.name)] = sum(
                bool(ids & {v for v in row.values() if isinstance(v, UUID)}) for row in rows
            )
    return {name: count for name, count in found.items() if count}


class TestDelete:
    def test_no_row_of_the_study_is_left_in_any_table(
        self, make_person: MakePerson, services: Services
    ) -> None:
        victim = make_victim(services, make_tenant(services.database))
        owner = make_person(victim.tenant_id)
        person = Person(owner.client, services, victim.user)
        tenant = {"tenant_id": victim.tenant_id}
        with services.database.tenant(victim.tenant_id) as session:
            session.add(
                Upload(
                    owner_id=victim.user.user_id,
                    filename_sealed=b"x",
                    size=1,
                    part_bytes=1,
                    key="k",
                    storage_id="s",
                    expires_at=func.now(),
                    study_id=victim.study_id,
                    **tenant,
                )
            )
            known = session.scalars(select(IncomingObject.id)).all()
        keys = {
            table.name
            for table in Base.metadata.sorted_tables
            if any(key.column.table.name == "studies" for key in table.foreign_keys)
        }
        ids = {victim.study_id, victim.task_id, victim.report_id, victim.file_id, victim.series_id}
        before = of_study(services, victim.tenant_id, ids)
        assert keys <= before.keys(), "make one of each, so that this test shows that it goes"
        assert before.keys() >= {"step_results", "dicom_instances", "findings", "artifacts", "reports"}
        answer = person.ask("DELETE", f"studies/{victim.study_id}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert of_study(services, victim.tenant_id, ids) == {}
        with services.database.tenant(victim.tenant_id) as session:
            still = session.scalars(select(IncomingObject.id)).all()
            assert still == known != [], "a late notice must not bring it back"
            assert session.scalars(select(Study.id)).all() == [victim.slide_id]
            assert session.scalars(select(Case.id)).all() == [victim.case_id]

    def test_it_is_told_of_once_and_then_it_is_not_there(self, doctor: Person) -> None:
        study_id = doctor.add_study()
        doctor.add_file(study_id)
        answers = [doctor.ask("DELETE", f"studies/{study_id}").status_code for _ in range(2)]
        assert answers == [204, 404]
        assert doctor.events() == [{"type": "hounsfield.study.deleted", "study_id": str(study_id)}]
        assert doctor.listed("studies") == []
        [entry] = doctor.audited("study.delete")
        assert (entry.subject_id, entry.patient_id) == (study_id, PATIENT)

    def test_what_still_lay_where_it_was_sent_goes_at_once(self, doctor: Person, services: Services) -> None:
        study_id, other = held(doctor), held(doctor)
        assert doctor.ask("DELETE", f"studies/{study_id}").status_code == 204
        [left] = services.storage.list_objects("incoming")
        assert str(other) in left.key

    def test_an_object_that_was_replaced_meanwhile_is_another_studys(
        self, doctor: Person, services: Services
    ) -> None:
        study_id = held(doctor)
        [old] = services.storage.list_objects("incoming")
        services.storage.put("incoming", old.key, b"sent again, with something else in it")
        assert doctor.ask("DELETE", f"studies/{study_id}").status_code == 204
        [left] = services.storage.list_objects("incoming")
        assert (left.key, left.etag) != (old.key, old.etag)

    def test_a_study_that_cannot_be_deleted_keeps_its_files(self, doctor: Person, services: Services) -> None:
        """The rows go first: where the database refuses, nothing was removed from the store."""
        study_id = held(doctor)
        with services.database.engine.begin() as owner:
            owner.execute(text("create table claims (study_id uuid references studies(id))"))
            owner.execute(text("insert into claims values (:id)"), {"id": study_id})
        assert doctor.ask("DELETE", f"studies/{study_id}").status_code == 500
        assert doctor.row(study_id) is not None
        assert len(list(services.storage.list_objects("incoming"))) == 1
        assert doctor.events() == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"name": "mine now"}),
        ("DELETE", "", None),
        ("POST", "/release", {"decision": "reject"}),
        ("GET", "/series", None),
        ("GET", "/artifacts", None),
    ],
)
def test_what_is_somebody_elses_is_not_there(
    doctor: Person, colleague: Person, make_person: MakePerson, method: str, path: str, body: Any
) -> None:
    study_id = held(doctor)
    before = doctor.get(f"studies/{study_id}").json()
    for stranger in (colleague, make_person(make_tenant(doctor.services.database), Role.ADMIN)):
        told = []
        for one in (study_id, uuid7()):
            answer = stranger.ask(method, f"studies/{one}{path}", body)
            assert answer.status_code == 404
            told.append(answer.text.replace(str(one), ""))
        assert told[0] == told[1]
    assert doctor.get(f"studies/{study_id}").json() == before
    assert doctor.events() == []


def test_every_sealed_column_is_sealed_anew_when_its_key_is_replaced() -> None:
    """A key is removed once nothing that `SEALED` names needs it: what is missing there could never be opened again."""
    sealed = {
        (table.name, column.name)
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if column.name.endswith("_sealed")
    }
    assert {(one.row.__tablename__, one.column.key) for one in SEALED} == sealed
