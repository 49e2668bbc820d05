"""Images that a person has to look at first: held, left out, or taken once they were released."""

from pathlib import Path
from typing import Any

from pydicom.uid import UID
from sqlalchemy import null, update

from shared.db.models import FileRole, Study
from shared.intake import announce
from shared.runtime.unit import unit_of_work
from tests.intake import Intake, of_role
from tests.unit.functions.ingest.series import ct_series, packed, uid_of
from tests.unit.shared.imaging.dicom.builders import SECONDARY_CAPTURE, make_image, save


def burned_in(folder: Path, **tags: Any) -> Path:
    return packed(ct_series(folder, BurnedInAnnotation="YES", **tags), folder.with_suffix(".tar.gz"))


def test_a_study_of_nothing_but_held_images_waits_with_its_files(intake: Intake, tmp_path: Path) -> None:
    study = intake.taken(burned_in(tmp_path / "a"))
    assert (study.status, study.step, study.held) == ("receiving", "held", ["burned-in"])
    assert study.message == (
        "all 5 images wait for a person to look at them: text may be part of the picture"
    )
    assert len(of_role(study, FileRole.RECEIVED)) == len(intake.incoming()) == 1
    assert intake.objects(study.id) == [] and list(intake.series(study.id)) == []


def test_a_released_study_takes_the_held_images_in(intake: Intake, tmp_path: Path) -> None:
    held = intake.taken(burned_in(tmp_path / "a"))
    with unit_of_work(intake.services, intake.tenant_id) as unit:
        release = update(Study).where(Study.id == held.id)
        freed = {"released_by": intake.user.user_id, "held": null(), "step": "received", "message": None}
        unit.session.execute(release.values(freed))
        announce(unit, unit.session.get_one(Study, held.id))
    study = intake.settled(held.id)
    assert (study.status, study.held, study.kind) == ("ingested", None, "ct")
    assert [len(one.instances) for one in intake.series(study.id)] == [5]
    assert intake.incoming() == []


def test_held_images_beside_usable_ones_are_left_out_and_counted(intake: Intake, tmp_path: Path) -> None:
    ct_series(tmp_path / "a" / "scan")
    capture = make_image(
        SOPClassUID=UID(SECONDARY_CAPTURE),
        ConversionType="WSD",
        SeriesInstanceUID=uid_of(tmp_path / "capture"),
        PatientID="HOSP-7734521",
    )
    save(capture, tmp_path / "a" / "capture.dcm")
    study = intake.taken(packed(tmp_path / "a", tmp_path / "a.tar.gz"))
    assert study.status == "ingested"
    assert study.details["held_images"] == {"burned-in": 1}
    assert [len(one.instances) for one in intake.series(study.id)] == [5]


def test_reports_and_plans_are_left_out_by_what_they_are(intake: Intake, tmp_path: Path) -> None:
    ct_series(tmp_path / "a" / "scan")
    report = make_image(
        SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.88.11"),
        Modality="SR",
        PixelData=None,
        Rows=None,
        Columns=None,
    )
    save(report, tmp_path / "a" / "report.dcm")
    study = intake.taken(packed(tmp_path / "a", tmp_path / "a.tar.gz"))
    assert study.details["left_out"] == {"is a structured report": 1}
    alone = intake.taken(tmp_path / "a" / "report.dcm")
    assert alone.message == (
        "none of the DICOM files is an image that can be used: 1 × is a structured report"
    )
