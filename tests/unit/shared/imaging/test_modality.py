"""Which sequence a file is: by form, by name, by image."""

from pathlib import Path

import numpy as np
import pytest

from shared.errors import Invalid
from shared.imaging.modality import (
    MODALITIES,
    Modality,
    assign_modalities,
    find_modality,
    modality_from_filename,
)
from shared.imaging.nifti import Limits, read_nifti
from shared.imaging.volume import Volume


@pytest.mark.parametrize(
    ("filename", "modality"),
    [
        ("BraTS2021_00006_t1.nii.gz", "t1"),
        ("BraTS2021_00006_t1ce.nii.gz", "t1ce"),
        ("BraTS2021_00006_t2.nii.gz", "t2"),
        ("BraTS2021_00006_flair.nii.gz", "flair"),
        ("BraTS-GLI-00000-000-t1n.nii.gz", "t1"),
        ("BraTS-GLI-00000-000-t1c.nii.gz", "t1ce"),
        ("BraTS-GLI-00000-000-t2w.nii.gz", "t2"),
        ("BraTS-GLI-00000-000-t2f.nii.gz", "flair"),
        ("sub-01_T1w.nii.gz", "t1"),
        ("sub-01_ce-gadolinium_T1w.nii.gz", "t1ce"),
        ("sub-01_ses-02_FLAIR.nii", "flair"),
        ("sub-01_T2w.nii.gz", "t2"),
        ("T1_CE.nii", "t1ce"),
        ("T1 contrast.nii.gz", "t1ce"),
        ("T1+Gd.nii.gz", "t1ce"),
        ("t1gd.nii", "t1ce"),
        ("t1post.nii", "t1ce"),
        ("AX_T1_POST.nii.gz", "t1ce"),
        ("axt1post.nii.gz", "t1ce"),
        ("t1_pre_contrast.nii.gz", "t1"),
        ("T1 without contrast.nii.gz", "t1"),
        ("mprage.nii.gz", "t1"),
        ("MPRAGE_gd.nii.gz", "t1ce"),
        ("mprage-post.nii.gz", "t1ce"),
        ("ax_t2_flair.nii.gz", "flair"),
        ("T2FLAIR.nii.gz", "flair"),
        ("flair_post_gd.nii.gz", "flair"),
        ("T2_TSE_post.nii.gz", "t2"),
        ("t1/patient_t2.nii.gz", "t2"),
        (r"C:\t1\patient_t2.nii.gz", "t2"),
    ],
)
def test_a_name_that_says_one_sequence_is_believed(filename: str, modality: Modality) -> None:
    assert modality_from_filename(filename) == modality


@pytest.mark.parametrize(
    "filename",
    [
        "patient21.nii.gz",
        "t100.nii.gz",
        "at1.nii.gz",
        "scan.nii.gz",
        "",
        "T1_and_T2.nii.gz",
        "T1_FLAIR.nii.gz",
        "t1_t1ce.nii.gz",
        "t1_seg.nii.gz",
        "T2_star.nii.gz",
        "T1_map.nii.gz",
        "contrast.nii.gz",
    ],
)
def test_a_name_that_says_none_or_several_is_not(filename: str) -> None:
    assert modality_from_filename(filename) is None


def test_the_form_outranks_the_name() -> None:
    guess = find_modality("scan_t1.nii.gz", "T1CE", None)
    assert (guess.modality, guess.source, guess.confidence) == ("t1ce", "form", 1.0)


def test_an_unknown_form_value_is_refused_without_repeating_it() -> None:
    with pytest.raises(Invalid, match="unknown sequence; use t1") as refused:
        find_modality("t1.nii.gz", "Jane Doe", None)
    assert "Jane" not in refused.value.detail


def test_an_empty_form_value_is_none() -> None:
    assert find_modality("t1.nii.gz", " ", None).source == "filename"


def test_two_files_of_one_sequence_are_refused() -> None:
    with pytest.raises(Invalid, match="Several files are called FLAIR"):
        assign_modalities([("a_flair.nii", None, None), ("b_flair.nii", None, None)])
    with pytest.raises(Invalid, match="Several files are called T2"):
        assign_modalities([("a_flair.nii", "t2", None), ("b_t2.nii", None, None)])


@pytest.mark.parametrize("count", [0, 5])
def test_a_study_has_one_to_four_files(count: int) -> None:
    with pytest.raises(Invalid, match="1 to 4 sequences"):
        assign_modalities([("t1.nii", None, None)] * count)


def test_without_name_and_image_the_user_is_asked() -> None:
    with pytest.raises(Invalid, match="form field 'modalities'"):
        find_modality("scan.nii.gz", None, None)


def test_an_image_without_tissue_asks_for_a_brain() -> None:
    speck = np.zeros((30, 30, 30), dtype=np.int16)
    speck[15, 15, 15] = 7
    with pytest.raises(Invalid, match="a scan of a whole brain"):
        find_modality("scan.nii.gz", None, Volume(speck, np.eye(4)))


def test_the_image_tells_skull_stripped_sequences_apart(hounsfield_data: Path) -> None:
    right = total = 0
    for case in sorted((hounsfield_data / "brain3d").glob("BraTS2021_*")):
        for modality in MODALITIES:
            volume = read_nifti(case / f"{case.name}_{modality}.nii.gz", Limits())
            guess = find_modality("scan.nii.gz", None, volume)
            assert guess.source == "image"
            assert guess.confidence <= 0.6
            right, total = right + (guess.modality == modality), total + 1
    assert right >= 0.9 * total


def test_nameless_files_share_out_the_sequences_that_are_left(hounsfield_data: Path) -> None:
    case = hounsfield_data / "brain3d" / "BraTS2021_01658"
    volumes = {m: read_nifti(case / f"{case.name}_{m}.nii.gz", Limits()) for m in MODALITIES}
    files = [
        ("one.nii", None, volumes["flair"]),
        ("scan_t1ce.nii", None, volumes["t1ce"]),
        ("two.nii", None, volumes["t1"]),
        ("three.nii", "t2", volumes["t2"]),
    ]
    guesses = assign_modalities(files)
    assert [guess.modality for guess in guesses] == ["flair", "t1ce", "t1", "t2"]
    assert [guess.source for guess in guesses] == ["image", "filename", "image", "form"]


def test_with_the_skull_on_the_user_is_asked(hounsfield_data: Path) -> None:
    case = hounsfield_data / "brain3d" / "TCGA-FG-6692_native"
    for modality in MODALITIES:
        volume = read_nifti(case / f"TCGA-FG-6692_{modality}.nii.gz", Limits())
        with pytest.raises(Invalid, match="form field 'modalities'"):
            find_modality("scan.nii.gz", None, volume)


def test_an_image_is_read_only_where_nothing_else_tells() -> None:
    read: list[str] = []

    def image(name: str) -> Volume:
        read.append(name)
        return Volume(np.zeros((40, 40, 40)), np.eye(4))

    files = [(name, None, lambda name=name: image(name)) for name in ("a_t1.nii", "b.nii", "c_t2.nii")]
    with pytest.raises(Invalid, match="tissue"):
        assign_modalities(files)
    assert read == ["b.nii"]
