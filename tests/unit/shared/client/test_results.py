from typing import Any

import pytest

from shared.client.results import Study


def study(**more: Any) -> Study:
    return Study.read({"id": "1", "status": "receiving", **more})


def test_an_answer_of_few_fields_is_enough() -> None:
    plain = study()
    assert (plain.kind, plain.progress, plain.files, plain.results, plain.known) == (None, 0, (), None, False)
    assert not plain.ended


@pytest.mark.parametrize(
    ("more", "ended", "failed"),
    [
        ({"status": "rejected"}, True, True),
        ({"status": "processing", "task": {"id": "t", "state": "FAILURE"}}, True, True),
        ({"status": "processing", "task": {"id": "t", "state": "STARTED"}}, False, False),
        ({"status": "completed", "results": {"report_id": None}}, False, False),
        ({"status": "completed", "results": {"report_id": "r"}}, True, False),
        ({"held": ["text is burnt in"]}, True, False),
        ({"held": ["text is burnt in"], "released_by": "somebody"}, False, False),
    ],
)
def test_a_study_has_ended_when_nothing_more_happens_by_itself(
    more: dict[str, Any], ended: bool, failed: bool
) -> None:
    assert (study(**more).ended, study(**more).failed) == (ended, failed)


def test_nothing_that_names_a_patient_is_printed_by_accident() -> None:
    named = study(
        patient_id="DOE-1",
        patient_name="Jane Doe",
        files=[{"id": "f", "size": 1, "sha256": None, "filename": "Doe.nii"}],
    )
    assert "doe" not in repr(named).lower()
    assert named.raw["patient_name"] == "Jane Doe"
