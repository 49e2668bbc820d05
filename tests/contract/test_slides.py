"""Slides, as the older slide system's clients list, name and delete them."""

from typing import Any
from uuid import UUID

import pytest

from shared.db.models import FileRole, Role
from shared.ids import uuid7
from tests.builders import make_tenant
from tests.contract.clinic import PATIENT, VOXELS, MakePerson, Person

FACTS = {
    "vendor": "aperio",
    "width": 46_000,
    "height": 32_914,
    "levels": [{"width": 46_000}, {"width": 11_500}, {"width": 2_875}],
    "mpp": [0.499, 0.499],
}


def add_slide(person: Person, name: str | None = None, **values: Any) -> UUID:
    study_id = person.add_study("slide", name, **values)
    person.add_file(study_id, FileRole.SLIDE, "DOE_JANE biopsy.svs", details=FACTS)
    return study_id


class TestShown:
    def test_with_the_fields_that_the_older_system_documented_and_what_it_is(self, doctor: Person) -> None:
        case_id = doctor.add_case()
        slide_id = add_slide(doctor, "Biopsy 2", case_id=case_id)
        [slide] = doctor.get("slides").json()["items"]
        assert slide == doctor.get(f"slides/{slide_id}").json()
        assert (slide["id"], slide["name"], slide["type"]) == (str(slide_id), "Biopsy 2", "aperio")
        assert slide["original_filename"] == "DOE_JANE biopsy.svs"
        assert slide["owner_id"] == str(doctor.principal.user_id)
        assert (slide["width"], slide["height"], slide["levels"]) == (46_000, 32_914, 3)
        assert (slide["mpp"], slide["size"]) == ([0.499, 0.499], len(VOXELS))
        assert (slide["patient_id"], slide["case_id"]) == (PATIENT, str(case_id))
        assert slide["viewer_url"] == f"/api/viewer/{slide_id}.dzi"
        assert slide["thumbnail_url"] == f"/api/viewer/{slide_id}/thumbnail"
        assert doctor.get(slide["file_url"].removeprefix("/api/")).status_code == 307

    def test_of_several_files_with_the_size_of_all(self, doctor: Person) -> None:
        slide_id = add_slide(doctor)
        doctor.add_file(slide_id, FileRole.SLIDE, "2.dcm")
        slide = doctor.get(f"slides/{slide_id}").json()
        assert (slide["size"], slide["type"]) == (2 * len(VOXELS), "aperio")

    def test_without_a_name_it_is_called_as_its_file(self, doctor: Person) -> None:
        slide_id = add_slide(doctor)
        assert doctor.get(f"slides/{slide_id}").json()["name"] == "DOE_JANE biopsy"

    def test_before_ingest_there_is_nothing_to_look_at(self, doctor: Person) -> None:
        slide_id = doctor.add_study("slide", status="receiving")
        slide = doctor.get(f"slides/{slide_id}").json()
        assert {slide[name] for name in ("name", "type", "size", "viewer_url", "file_url")} == {None}
        doctor.add_file(slide_id, FileRole.RECEIVED, "new.svs")
        slide = doctor.get(f"slides/{slide_id}").json()
        assert (slide["name"], slide["size"]) == ("new", len(VOXELS))
        assert {slide[name] for name in ("type", "width", "mpp", "viewer_url", "file_url")} == {None}

    def test_newest_first_in_pages_filtered_and_sorted_as_studies_are(self, doctor: Person) -> None:
        ids = [str(add_slide(doctor, patient_id=patient)) for patient in ("P-2", "P-1", "P-2")]
        doctor.add_study("ct")
        assert doctor.listed("slides?limit=2") == ids[::-1]
        assert doctor.listed("slides?patient_id=P-2&sort=created_at") == [ids[0], ids[2]]
        assert doctor.get("slides?sort=name").status_code == 422

    def test_to_its_owner_and_administrators(
        self, doctor: Person, colleague: Person, admin: Person, make_person: MakePerson
    ) -> None:
        slide_id = str(add_slide(doctor))
        assert admin.listed("slides") == [slide_id]
        assert colleague.listed("slides") == []
        assert make_person(make_tenant(doctor.services.database), Role.ADMIN).listed("slides") == []


class TestRename:
    def test_gives_it_a_name_by_if_match(self, doctor: Person) -> None:
        slide_id = add_slide(doctor)
        etag = doctor.get(f"slides/{slide_id}").headers["etag"]
        named = doctor.ask("PATCH", f"slides/{slide_id}", {"name": "Left, H&E"}, If_Match=etag)
        assert (named.status_code, named.json()["name"]) == (200, "Left, H&E")
        late = doctor.ask("PATCH", f"slides/{slide_id}", {"name": "other"}, If_Match=etag)
        assert late.status_code == 412
        assert doctor.get(f"slides/{slide_id}").headers["etag"] == named.headers["etag"]

    @pytest.mark.parametrize("wrong", [{}, {"name": None}, {"name": "  "}, {"name": 5}, {"name": "a\x00"}])
    def test_what_is_no_name_is_refused(self, doctor: Person, wrong: dict[str, Any]) -> None:
        assert doctor.ask("PATCH", f"slides/{add_slide(doctor, 'A')}", wrong).status_code == 422


class TestBulkDelete:
    def test_deletes_ones_own_slides_and_tells_what_was_not_found(
        self, doctor: Person, colleague: Person
    ) -> None:
        mine = [add_slide(doctor) for _ in range(3)]
        theirs, scan, nobodys = add_slide(colleague), doctor.add_study("ct"), uuid7()
        asked = [str(one) for one in (*mine[:2], theirs, scan, nobodys, mine[0])]
        answer = doctor.ask("POST", "slides/bulk-delete", {"ids": asked})
        assert answer.status_code == 200, answer.text
        assert set(answer.json()["deleted"]) == {str(one) for one in mine[:2]}
        assert set(answer.json()["not_found"]) == {str(theirs), str(scan), str(nobodys)}
        assert doctor.listed("slides") == [str(mine[2])]
        assert colleague.listed("slides") == [str(theirs)]
        assert doctor.row(scan) is not None
        events = [event for event in doctor.events() if event["type"] == "hounsfield.study.deleted"]
        assert {event["study_id"] for event in events} == {str(one) for one in mine[:2]}
        assert {entry.subject_id for entry in doctor.audited("study.delete")} == set(mine[:2])
        [refused] = doctor.audited("access.refused")
        assert set(refused.details["ids"]) == {str(theirs), str(scan), str(nobodys)}

    def test_asked_again_does_no_harm(self, doctor: Person) -> None:
        wanted = {"ids": [str(add_slide(doctor))]}
        assert doctor.ask("POST", "slides/bulk-delete", wanted).json()["deleted"] == wanted["ids"]
        again = doctor.ask("POST", "slides/bulk-delete", wanted)
        assert (again.status_code, again.json()) == (200, {"deleted": [], "not_found": wanted["ids"]})

    @pytest.mark.parametrize("ids", [[], ["7"], [str(UUID(int=n)) for n in range(101)], None, "all"])
    def test_takes_1_to_100_ids(self, doctor: Person, ids: Any) -> None:
        slide_id = add_slide(doctor)
        answer = doctor.ask("POST", "slides/bulk-delete", {"ids": ids} if ids is not None else {})
        assert answer.status_code == 422
        assert doctor.listed("slides") == [str(slide_id)]

    def test_is_no_slide_itself(self, doctor: Person) -> None:
        for method in ("GET", "PATCH", "DELETE"):
            answer = doctor.ask(method, "slides/bulk-delete", {"name": "x"})
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert doctor.get("slides/no-uuid").status_code == 404

    def test_takes_100(self, doctor: Person) -> None:
        ids = [str(UUID(int=n)) for n in range(100)]
        answer = doctor.ask("POST", "slides/bulk-delete", {"ids": ids})
        assert len(answer.json()["not_found"]) == 100


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)])
def test_what_is_no_slide_or_somebody_elses_is_not_there(
    doctor: Person, colleague: Person, make_person: MakePerson, method: str, body: Any
) -> None:
    slide_id, scan = add_slide(doctor, "A"), doctor.add_study("ct")
    stranger = make_person(make_tenant(doctor.services.database), Role.ADMIN)
    assert doctor.ask(method, f"slides/{scan}", body).status_code == 404
    for person in (colleague, stranger):
        assert person.ask(method, f"slides/{slide_id}", body).status_code == 404
        assert person.audited("access.refused")[-1].subject_id == slide_id
    assert doctor.get(f"slides/{slide_id}").json()["name"] == "A"
    assert doctor.row(scan).name_sealed is None


def test_a_slide_that_is_deleted_is_gone(doctor: Person) -> None:
    slide_id = add_slide(doctor)
    assert doctor.ask("DELETE", f"slides/{slide_id}").status_code == 204
    assert doctor.ask("DELETE", f"slides/{slide_id}").status_code == 404
    assert doctor.events() == [{"type": "hounsfield.study.deleted", "study_id": str(slide_id)}]
