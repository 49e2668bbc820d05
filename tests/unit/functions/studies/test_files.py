"""Which files of a study somebody may fetch, and what they are saved as."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.studies.files.service import may_fetch, safe_name, served, url_of
from shared.db.models import FileRole, Role, Study, StudyFile
from shared.ids import uuid7
from shared.security.policy import Action
from shared.security.principal import Principal


def viewer(role: Role, scopes: frozenset[Action] | None = None) -> Principal:
    return Principal(uuid7(), uuid7(), role, None, scopes)


def file_of(study: Study, key: str = "t/s/volume/1.nii.gz", **values: object) -> StudyFile:
    file = StudyFile(id=uuid7(), study_id=study.id, key=key, size=1, bucket="studies", **values)
    study.files.append(file)
    return file


@pytest.fixture
def study() -> Study:
    return Study(id=uuid7())


@pytest.mark.parametrize("role", FileRole)
@pytest.mark.parametrize("who", Role)
def test_who_may_see_a_study_may_fetch_what_ingest_made(study: Study, role: FileRole, who: Role) -> None:
    file = file_of(study, role=role)
    allowed = role != FileRole.RECEIVED and (role != FileRole.ORIGINAL or who == Role.ADMIN)
    assert may_fetch(viewer(who), file) is allowed
    assert (url_of(viewer(who), file) is not None) is allowed


def test_a_key_that_may_not_read_studies_gets_no_original_though_its_maker_would(study: Study) -> None:
    file = file_of(study, role=FileRole.ORIGINAL)
    assert not may_fetch(viewer(Role.ADMIN, frozenset({Action.STUDIES_WRITE})), file)


@pytest.mark.parametrize(
    ("key", "ending"),
    [
        ("t/s/volume/1.nii.gz", ".nii.gz"),
        ("t/s/slide/1.svs", ".svs"),
        ("t/s/slide/1.TIFF", ".tiff"),
        ("t/s.x/slide/1", ""),
        ("t/s/slide/a.b.nii.gz", ".nii.gz"),
        ("t/s/original/1.Jane Doe", ""),
        ("t/s/original/1." + "x" * 9, ""),
    ],
)
def test_the_ending_of_our_key_is_kept(study: Study, key: str, ending: str) -> None:
    file = file_of(study, key, role=FileRole.VOLUME)
    assert safe_name(study, file) == f"study-{study.id}-volume-1{ending}"


def test_files_of_one_role_have_names_of_their_own(study: Study) -> None:
    named = [
        safe_name(study, file_of(study, role=FileRole.VOLUME, modality=m)) for m in ("t1", "t2", None, None)
    ]
    assert len(set(named)) == 4


@given(st.text(max_size=40), st.text(max_size=20) | st.none())
def test_no_key_and_no_modality_breaks_the_header(key: str, modality: str | None) -> None:
    study = Study(id=uuid7())
    name = safe_name(study, file_of(study, key, role=FileRole.SLIDE, modality=modality))
    assert re.fullmatch(r"study-[0-9a-f-]{36}-slide-[a-z0-9]+[a-z0-9.]*", name)


def test_a_file_whose_hash_is_not_known_is_told_from_others_by_its_id(study: Study) -> None:
    file = file_of(study, role=FileRole.VOLUME)
    assert served(file).sha256 == file.id.hex
    assert served(file).media_type == "application/octet-stream"
