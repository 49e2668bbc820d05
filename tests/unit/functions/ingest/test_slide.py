"""Slides: freed of label and texts, described, and refused where they are none."""

import zipfile
from pathlib import Path

import openslide
import pytest
from PIL import Image

from shared.runtime import Services
from tests.intake import Intake
from tests.unit.functions.ingest.series import packed
from tests.unit.shared.imaging.slide.samples import SECRETS, aperio, generic


@pytest.mark.parametrize("name", ["scan.svs", "scan.bin"])
def test_a_slide_loses_its_label_and_texts_whatever_it_is_called(
    intake: Intake, services: Services, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(aperio().data)
    study = intake.taken(path)
    assert (study.status, study.kind) == ("ingested", "slide"), study.message
    [slide] = study.files
    details = slide.details
    assert (slide.role, details["vendor"], details["width"], details["height"]) == (
        "slide",
        "aperio",
        200,
        150,
    )
    assert details["removed"] == ["label", "macro", "thumbnail"]
    assert details["mpp"] == [0.499, 0.499] and details["objective"] == 20
    assert len(details["levels"]) == 2
    content = services.storage.read("studies", slide.key)
    assert not [secret for secret in SECRETS if secret in content]
    kept = tmp_path / "kept"
    kept.write_bytes(content)
    with openslide.OpenSlide(kept) as opened:
        assert (opened.dimensions, len(opened.associated_images)) == ((200, 150), 0)


def test_without_de_identification_a_slide_stays_as_it_is(
    intake: Intake, services: Services, tmp_path: Path
) -> None:
    services.settings.deidentify = False
    path = tmp_path / "scan.svs"
    path.write_bytes(aperio().data)
    study = intake.taken(path, kind="slide")
    assert services.storage.read("studies", study.files[0].key) == path.read_bytes()
    assert study.files[0].details["removed"] == []


def test_a_picture_is_no_slide(intake: Intake, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    study = intake.taken(tmp_path / "a.png", kind="slide")
    assert study.message == (
        "the study was sent as a whole-slide image, but holds files of the format png; send each by itself"
    )


def test_a_slide_is_no_ct(intake: Intake, tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    path.write_bytes(generic().data)
    study = intake.taken(path, kind="ct")
    assert study.message == (
        "the study was sent as a CT study, but holds a whole-slide image; send each by itself"
    )


def test_two_slides_are_two_studies(intake: Intake, tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    (folder / "a.svs").write_bytes(aperio().data)
    (folder / "b.svs").write_bytes(generic().data)
    study = intake.taken(packed(folder, tmp_path / "slides.tar.gz"))
    assert study.message == "the study holds 2 whole-slide images; send each as a study of its own"


def test_the_index_of_a_slide_is_none_without_its_files(intake: Intake, tmp_path: Path) -> None:
    index = b"[GENERAL]\r\nSLIDE_VERSION = 01.02\r\nSLIDE_ID = X\r\nSLIDE_NAME = x\r\n" + b" " * 100
    (tmp_path / "Slidedat.ini").write_bytes(index)
    alone = intake.taken(tmp_path / "Slidedat.ini")
    assert "only the index of a MIRAX slide; send all files" in str(alone.message)
    with zipfile.ZipFile(tmp_path / "slide.zip", "w") as archive:
        archive.writestr("case/scan/Slidedat.ini", index)
        archive.writestr("case/scan/Data0000.dat", bytes(5000))
    without = intake.taken(tmp_path / "slide.zip")
    assert "the .mrxs file too" in str(without.message)
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        archive.writestr("case/scan/Slidedat.ini", index)
        archive.writestr("case/scan.mrxs", b"")
    damaged = intake.taken(tmp_path / "whole.zip")
    assert "headers are damaged or incomplete" in str(damaged.message)


def test_a_reader_that_dies_costs_the_study_and_not_the_worker(
    intake: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is given less memory than OpenSlide needs to start, as good as a crash."""
    monkeypatch.setattr("shared.imaging.jobs.run.run_job.__kwdefaults__", {"memory": 2**20})
    path = tmp_path / "scan.svs"
    path.write_bytes(aperio().data)
    study = intake.taken(path)
    assert "damaged, or made to harm its reader" in str(study.message)
    monkeypatch.undo()
    assert intake.taken(path, duplicate=True).status == "ingested"
