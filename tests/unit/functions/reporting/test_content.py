"""The structured content."""

import json
import math

from functions.reporting.schemas import ReportContent
from tests.unit.functions.reporting import makers
from tests.unit.functions.reporting.makers import CLASSIFICATION, DETECTION, SEGMENTATION, content, finding


def test_sections_follow_the_steps_and_hold_exact_numbers_with_model_and_version() -> None:
    made = content(makers.everything())
    assert [(s.title, s.status, len(s.findings)) for s in made.sections] == [
        ("Detection", "done", 1),
        ("Classification", "done", 5),
        ("Segmentation", "done", 4),
    ]
    volume = made.sections[2].findings[2]
    assert (volume.number, volume.unit, volume.model, volume.model_version) == (
        12.349,
        "mL",
        SEGMENTATION,
        "1",
    )


def test_findings_have_one_order_however_the_database_gives_them() -> None:
    found = [*makers.everything(), finding("zeta", SEGMENTATION), finding("alpha", SEGMENTATION)]
    for position, one in enumerate(found):
        one.position = position
    for mixed in (found, found[::-1]):
        shown = [f.name for s in content(mixed).sections for f in s.findings]
        assert shown == [one.name for one in found]


def test_a_skipped_step_is_a_section_that_says_why() -> None:
    made = content([makers.detected(), *makers.classified()], results=makers.results(segment=False))
    assert made.sections[-1].model_dump() == {
        "title": "Segmentation",
        "step": "segment",
        "status": "skipped",
        "note": f"Skipped: {makers.NEEDS_ALL}",
        "findings": [],
    }


def test_findings_of_a_model_that_no_step_names_are_not_lost() -> None:
    made = content(
        [finding("volume-liver", "ct-organs", number=1500.0, unit="mL")], pipeline="ct", results={}
    )
    assert [(s.title, s.step, [f.name for f in s.findings]) for s in made.sections] == [
        ("ct-organs", None, ["volume-liver"])
    ]
    assert {model.name: model.version for model in made.models}["ct-organs"] == "1"


def test_model_facts_are_told_where_they_are_given() -> None:
    facts = {
        DETECTION: {"metrics": [{"name": "AUC", "value": 0.98, "split": "test", "n": 394}], "licence": "MIT"}
    }
    made = content(makers.everything(), results=makers.results(model_facts=facts))
    models = {model.name: model for model in made.models}
    assert models[DETECTION].metrics[0].n == 394
    assert models[CLASSIFICATION].metrics == [] and models[CLASSIFICATION].intended_use is None


def test_an_empty_task_still_has_a_report() -> None:
    made = content([], results={}, models={})
    assert (made.sections, made.models, made.warnings, made.pictures) == ([], [], [], [])
    assert made.narrative.impression


def test_warnings_of_ingest_and_pipeline_come_once_and_without_file_names() -> None:
    made = content(
        [],
        details={"warnings": ["DOE_JANE.nii.gz has no qform", "thick slices"]},
        results=makers.results(warnings=["thick slices", "DOE_JANE.nii.gz was taken for FLAIR"]),
        filenames=["DOE_JANE.nii.gz"],
    )
    assert made.warnings == ["[file] has no qform", "thick slices", "[file] was taken for FLAIR"]


def test_pictures_are_the_images_that_a_report_shows_best_first() -> None:
    made = content([], artifacts=["mask", "overlay", "overlay-montage", "slice"])
    assert [picture.role for picture in made.pictures] == ["overlay-montage", "overlay", "slice"]
    assert all(picture.alt.startswith("Brain MRI. ") for picture in made.pictures)


def test_the_json_form_is_read_back_equal_and_has_no_nan() -> None:
    found = [*makers.everything(), finding("odd", DETECTION, number=math.nan, probability=math.inf)]
    made = content(found)
    text = made.model_dump_json()
    assert ReportContent.model_validate_json(text) == made
    odd = json.loads(text)["sections"][0]["findings"][1]
    assert odd["number"] is None and odd["probability"] is None
