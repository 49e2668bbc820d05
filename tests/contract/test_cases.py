"""Cases: what a clinician collects of one patient, also as the older case system's clients write it."""

from typing import Any
from uuid import UUID

import pytest

from shared.db.models import FileRole, IdempotencyKey, Role
from shared.ids import uuid7
from tests.builders import make_tenant
from tests.contract.clinic import PATIENT, MakePerson, Person

NEW = {
    "patient_id": PATIENT,
    "age": 61,
    "sex": "female",
    "diagnosis": "Suspected glioma",
    "notes": "Two lines,\nof notes",
}
FIELDS = {
    "id",
    "patient_id",
    "age",
    "sex",
    "gender",
    "diagnosis",
    "notes",
    "status",
    "owner_id",
    "created_by",
    "created_at",
    "updated_at",
}


def made(person: Person, **fields: Any) -> dict[str, Any]:
    answer = person.ask("POST", "cases", fields)
    assert answer.status_code == 201, answer.text
    case: dict[str, Any] = answer.json()
    return case


class TestMake:
    def test_a_case_is_answered_whole_with_its_place_and_state(self, doctor: Person) -> None:
        answer = doctor.ask("POST", "cases", NEW)
        case = answer.json()
        assert answer.status_code == 201
        assert case.keys() == FIELDS
        assert {name: case[name] for name in NEW} == NEW
        assert case["status"] == "pending"
        assert case["owner_id"] == case["created_by"] == str(doctor.principal.user_id)
        assert answer.headers["location"] == f"/api/cases/{case['id']}"
        read = doctor.get(f"cases/{case['id']}")
        assert read.headers["etag"] == answer.headers["etag"]
        assert {name: read.json()[name] for name in FIELDS} == case
        assert read.json()["studies"] == []

    def test_without_a_pseudonym_one_is_made(self, doctor: Person) -> None:
        first, second = made(doctor), made(doctor)
        assert first["patient_id"].startswith("PAT-")
        assert first["patient_id"] != second["patient_id"]

    @pytest.mark.parametrize(
        ("sent", "sex"),
        [
            ({"gender": "Male"}, "male"),
            ({"gender": "F"}, "female"),
            ({"sex": "m"}, "male"),
            ({"sex": "FEMALE"}, "female"),
            ({"sex": "Other"}, "other"),
            ({"gender": "unknown"}, "unknown"),
            ({}, None),
        ],
    )
    def test_the_sex_is_understood_as_older_clients_write_it(
        self, doctor: Person, sent: dict[str, str], sex: str | None
    ) -> None:
        case = made(doctor, **sent)
        assert (case["sex"], case["gender"]) == (sex, sex)

    @pytest.mark.parametrize("status", ["In Progress", "in-progress", "IN_PROGRESS", "in_progress"])
    def test_so_are_the_status_and_camel_case(self, doctor: Person, status: str) -> None:
        case = made(doctor, status=status, patientId="P-7")
        assert (case["status"], case["patient_id"]) == ("in_progress", "P-7")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"age": 151},
            {"age": -1},
            {"age": "61"},
            {"age": 60.5},
            {"sex": "x"},
            {"status": "done"},
            {"patient_id": "Jane Doe"},
            {"patient_id": "x" * 65},
            {"notes": "x" * 20_001},
            {"diagnosis": "a\x00b"},
            {"diagnosis": 3},
            {"status": None},
            [],
        ],
    )
    def test_what_is_wrong_is_refused_and_not_repeated(self, doctor: Person, wrong: Any) -> None:
        answer = doctor.ask("POST", "cases", wrong)
        assert (answer.status_code, answer.json()["title"]) == (422, "Invalid content")
        assert "Jane Doe" not in answer.text
        assert doctor.listed("cases") == []

    def test_the_same_request_sent_again_makes_one_case(self, doctor: Person) -> None:
        answers = [doctor.ask("POST", "cases", NEW, Idempotency_Key="k-1") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].json() == answers[1].json()
        assert answers[0].headers["location"] == answers[1].headers["location"]
        assert len(doctor.listed("cases")) == 1
        other = doctor.ask("POST", "cases", {**NEW, "age": 1}, Idempotency_Key="k-1")
        assert other.status_code == 422


class TestList:
    def test_is_newest_first_in_pages(self, doctor: Person) -> None:
        ids = [str(doctor.add_case()) for _ in range(5)]
        assert doctor.listed("cases?limit=2") == ids[::-1]
        page = doctor.get("cases?limit=2")
        assert 'rel="next"' in page.headers["link"]
        assert page.json()["items"][0].keys() == FIELDS

    def test_is_filtered_by_status_and_patient(self, doctor: Person) -> None:
        mine = doctor.add_case(status="in_progress", patient_id="P-1")
        doctor.add_case(status="pending", patient_id="P-1")
        doctor.add_case(status="in_progress", patient_id="P-2")
        assert doctor.listed("cases?status=in_progress&patient_id=P-1") == [str(mine)]
        assert doctor.listed("cases?status=In%20Progress&patient_id=P-1") == [str(mine)]
        assert doctor.get("cases?status=late").status_code == 422

    def test_is_sorted_as_asked_over_all_pages(self, doctor: Person) -> None:
        patients = ["P-2", "P-1", "P-3", "P-1", "P-2"]
        ids = [str(doctor.add_case(patient_id=patient)) for patient in patients]
        by_patient = [ids[1], ids[3], ids[0], ids[4], ids[2]]
        assert doctor.listed("cases?limit=2&sort=patient_id") == by_patient
        assert doctor.listed("cases?limit=2&sort=-patient_id") == by_patient[::-1]
        assert doctor.listed("cases?limit=2&sort=created_at") == ids
        assert doctor.get("cases?sort=diagnosis").status_code == 422

    def test_a_cursor_whose_case_is_gone_is_told_not_taken_for_the_end(self, doctor: Person) -> None:
        for patient in ("P-1", "P-2", "P-3"):
            doctor.add_case(patient_id=patient)
        cursor = doctor.get("cases?limit=1&sort=patient_id").json()["next_cursor"]
        doctor.ask("DELETE", f"cases/{cursor}")
        answer = doctor.get(f"cases?limit=1&sort=patient_id&cursor={cursor}")
        assert answer.status_code == 422
        assert "begin the list again" in answer.json()["detail"]
        assert len(doctor.listed(f"cases?cursor={cursor}")) == 0
        assert len(doctor.listed(f"cases?sort=created_at&cursor={cursor}")) == 2

    def test_shows_ones_own_and_an_administrator_the_tenants(
        self, doctor: Person, colleague: Person, admin: Person, make_person: MakePerson
    ) -> None:
        mine, theirs = str(doctor.add_case()), str(colleague.add_case())
        stranger = make_person(make_tenant(doctor.services.database), Role.ADMIN)
        assert doctor.listed("cases") == [mine]
        assert admin.listed("cases") == [theirs, mine]
        assert stranger.listed("cases") == []


class TestChange:
    def test_what_is_sent_is_set_and_null_clears(self, doctor: Person) -> None:
        case = made(doctor, **NEW)
        answer = doctor.ask("PATCH", f"cases/{case['id']}", {"status": "Completed", "age": None})
        assert answer.status_code == 200
        changed = answer.json()
        assert (changed["status"], changed["age"]) == ("completed", None)
        same = FIELDS - {"status", "age", "updated_at"}
        assert {name: changed[name] for name in same} == {name: case[name] for name in same}
        assert answer.headers["etag"] == doctor.get(f"cases/{case['id']}").headers["etag"]

    def test_a_case_that_is_sent_back_with_either_spelling_edited_is_changed(self, doctor: Person) -> None:
        case = made(doctor, **NEW)
        url = f"cases/{case['id']}"
        assert doctor.ask("PATCH", url, {**case, "gender": "male"}).json()["sex"] == "male"
        shown = doctor.get(url).json()
        assert doctor.ask("PATCH", url, {**shown, "sex": "other"}).json()["gender"] == "other"
        assert doctor.ask("PATCH", url, {"gender": None}).json()["sex"] is None

    @pytest.mark.parametrize(
        "wrong", [{"patient_id": None}, {"status": None}, {"age": 200}, {"gender": "no"}]
    )
    def test_what_is_wrong_is_refused(self, doctor: Person, wrong: dict[str, Any]) -> None:
        case = made(doctor, **NEW)
        assert doctor.ask("PATCH", f"cases/{case['id']}", wrong).status_code == 422
        assert doctor.get(f"cases/{case['id']}").json()["updated_at"] == case["updated_at"]

    def test_a_state_that_is_past_is_refused(self, doctor: Person) -> None:
        case = doctor.ask("POST", "cases", NEW)
        url, etag = f"cases/{case.json()['id']}", case.headers["etag"]
        changed = doctor.ask("PATCH", url, {"age": 62}, If_Match=etag)
        assert changed.status_code == 200
        late = doctor.ask("PATCH", url, {"age": 63}, If_Match=etag)
        assert (late.status_code, late.json()["title"]) == (412, "Changed meanwhile")
        assert doctor.ask("PATCH", url, {"age": 63}, If_Match=changed.headers["etag"]).status_code == 200

    def test_the_patient_can_be_put_right_while_there_are_no_studies(self, doctor: Person) -> None:
        case_id = doctor.add_case(patient_id="P-1")
        assert doctor.ask("PATCH", f"cases/{case_id}", {"patientId": "P-2"}).status_code == 200
        [entry] = doctor.audited("case.update")
        assert entry.patient_id == "P-2"
        assert entry.details == {"fields": ["patient_id"], "former_patient": "P-1"}
        doctor.add_study(case_id=case_id, patient_id="P-2")
        refused = doctor.ask("PATCH", f"cases/{case_id}", {"patient_id": "P-3", "age": 1})
        assert (refused.status_code, refused.json()["title"]) == (409, "Conflict")
        assert doctor.ask("PATCH", f"cases/{case_id}", {"patient_id": "P-2", "age": 1}).status_code == 200


class TestDelete:
    def test_its_studies_stay_in_no_case(self, doctor: Person) -> None:
        case_id = doctor.add_case()
        study_id = doctor.add_study(case_id=case_id)
        assert doctor.ask("DELETE", f"cases/{case_id}").status_code == 204
        assert doctor.get(f"cases/{case_id}").status_code == 404
        assert doctor.get(f"studies/{study_id}").json()["case_id"] is None
        assert doctor.ask("DELETE", f"cases/{case_id}").status_code == 404

    def test_or_go_with_it_but_only_ones_own(self, doctor: Person, colleague: Person, admin: Person) -> None:
        case_id = doctor.add_case()
        mine, theirs = doctor.add_study(case_id=case_id), colleague.add_study(case_id=case_id)
        assert doctor.ask("DELETE", f"cases/{case_id}?studies=delete").status_code == 204
        assert doctor.get(f"studies/{mine}").status_code == 404
        assert colleague.get(f"studies/{theirs}").json()["case_id"] is None
        assert [event["study_id"] for event in doctor.events()] == [str(mine)]
        [entry] = doctor.audited("case.delete")
        assert (entry.subject_id, entry.patient_id) == (case_id, PATIENT)
        assert entry.details == {"studies": [str(mine)]}

    def test_what_becomes_of_studies_is_said_in_one_of_two_words(self, doctor: Person) -> None:
        case_id = doctor.add_case()
        assert doctor.ask("DELETE", f"cases/{case_id}?studies=maybe").status_code == 422
        assert doctor.listed("cases") == [str(case_id)]

    def test_its_notes_are_not_kept_for_repeated_requests(self, doctor: Person) -> None:
        case = doctor.ask("POST", "cases", NEW, Idempotency_Key="k-2").json()
        doctor.ask("DELETE", f"cases/{case['id']}")
        with doctor.services.database.tenant(doctor.principal.tenant_id) as session:
            assert session.query(IdempotencyKey).count() == 0


class TestImages:
    def test_are_the_files_of_its_studies_with_where_to_fetch_them(self, doctor: Person) -> None:
        case_id = doctor.add_case()
        study_id = doctor.add_study("brain-mri", case_id=case_id)
        kept = doctor.add_file(study_id, modality="t1", media_type="application/gzip")
        waiting = doctor.add_file(study_id, FileRole.RECEIVED, "raw.dcm")
        doctor.add_file(doctor.add_study("oct"), FileRole.FUNDUS)
        answer = doctor.get(f"cases/{case_id}/images").json()["items"]
        assert [item["id"] for item in answer] == [str(waiting), str(kept)]
        assert [item["url"] for item in answer] == [None, f"/api/studies/{study_id}/files/{kept}"]
        [image] = [item for item in answer if item["id"] == str(kept)]
        assert (image["role"], image["modality"], image["kind"]) == ("volume", "t1", "brain-mri")
        assert image["study_id"] == str(study_id)
        assert image["filename"] == "DOE_JANE.nii.gz"
        assert image["size"] > 0 and image["uploaded_at"]
        assert doctor.listed(f"cases/{case_id}/images?limit=1") == [str(waiting), str(kept)]

    def test_somebody_elses_study_in_the_case_is_not_shown(self, doctor: Person, colleague: Person) -> None:
        case_id = doctor.add_case()
        colleague.add_file(colleague.add_study(case_id=case_id))
        assert doctor.listed(f"cases/{case_id}/images") == []
        assert doctor.get(f"cases/{case_id}").json()["studies"] == []


def test_a_case_is_shown_with_its_studies(doctor: Person) -> None:
    case_id = doctor.add_case()
    ids = [str(doctor.add_study(case_id=case_id, name=f"Scan {n}")) for n in range(2)]
    doctor.add_study()
    studies = doctor.get(f"cases/{case_id}").json()["studies"]
    assert [study["id"] for study in studies] == ids[::-1]
    assert studies[0]["name"] == "Scan 1"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"age": 1}),
        ("DELETE", "", None),
        ("DELETE", "?studies=delete", None),
        ("GET", "/images", None),
    ],
)
def test_what_is_somebody_elses_is_not_there(
    doctor: Person, colleague: Person, make_person: MakePerson, method: str, path: str, body: Any
) -> None:
    case_id = doctor.add_case()
    doctor.add_study(case_id=case_id)
    before = doctor.get(f"cases/{case_id}").json()
    strangers = [colleague, make_person(make_tenant(doctor.services.database), Role.ADMIN)]
    nobody = uuid7()
    for stranger in strangers:
        told = []
        for one in (case_id, nobody):
            answer = stranger.ask(method, f"cases/{one}{path}", body)
            assert answer.status_code == 404
            told.append(answer.text.replace(str(one), ""))
        assert told[0] == told[1]
        assert [entry.subject_id for entry in stranger.audited("access.refused")[-2:]] == [case_id, nobody]
        assert {entry.subject_type for entry in stranger.audited("access.refused")} == {"case"}
    assert doctor.get(f"cases/{case_id}").json() == before


def test_everything_is_in_the_audit_log_with_the_patients_pseudonym(doctor: Person, admin: Person) -> None:
    case_id = UUID(made(doctor, **NEW)["id"])
    study_id = doctor.add_study(case_id=case_id)
    admin.get(f"cases/{case_id}")
    admin.get("cases")
    admin.get(f"cases/{case_id}/images")
    admin.ask("PATCH", f"cases/{case_id}", {"notes": "Seen by Dr Doe"})
    who = {"case.create": doctor, "case.read": admin, "case.images": admin, "case.update": admin}
    for action, person in who.items():
        [entry] = doctor.audited(action)
        assert (entry.actor_id, entry.subject_type) == (person.principal.user_id, "case")
        assert (entry.subject_id, entry.patient_id) == (case_id, PATIENT)
        assert "Doe" not in str(entry.details)
    assert doctor.audited("case.read")[0].details == {"studies": [str(study_id)]}
    assert doctor.audited("case.update")[0].details == {"fields": ["notes"]}
    assert doctor.audited("case.list")[0].details == {"cases": [str(case_id)], "patients": [PATIENT]}
