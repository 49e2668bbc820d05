"""The synthetic study is a complete, repeatable, co-registered study with a lesion to find."""

from pathlib import Path

import numpy as np
import pytest

from shared.imaging.measure import label_volumes_ml, slice_areas
from shared.imaging.modality import MODALITIES, Modality
from shared.imaging.nifti import Limits, read_nifti
from shared.imaging.slices import representative_slices
from shared.imaging.synthetic import TRUTH_NAME, synthetic_study
from shared.imaging.volume import Volume

pytest.importorskip("nilearn")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[Modality, Path]:
    return synthetic_study(tmp_path_factory.mktemp("study"), seed=3, resolution_mm=2)


@pytest.fixture(scope="module")
def truth(study: dict[Modality, Path]) -> Volume:
    return read_nifti(study["t1"].parent / TRUTH_NAME, Limits())


def test_four_sequences_and_the_truth_share_one_grid(study: dict[Modality, Path], truth: Volume) -> None:
    assert tuple(study) == MODALITIES
    for modality, path in study.items():
        assert path.name == f"{modality}.nii.gz"
        assert read_nifti(path, Limits()).same_grid(truth)


def test_the_lesion_has_all_three_labels_in_plausible_amounts(truth: Volume) -> None:
    volumes = label_volumes_ml(truth, {"core": {1}, "oedema": {2}, "rim": {3}})
    assert volumes["core"] > 1 and volumes["rim"] > 2 and volumes["oedema"] > 10
    assert sum(volumes.values()) < 200


def test_the_lesion_looks_as_it_should_in_each_sequence(study: dict[Modality, Path], truth: Volume) -> None:
    data = {modality: read_nifti(path, Limits()).data.astype(float) for modality, path in study.items()}
    rim, oedema = truth.data == 3, truth.data == 2
    rest = (data["t1"] > 0) & (truth.data == 0)
    assert np.median(data["t1ce"][rim]) > 1.5 * np.percentile(data["t1ce"][rest], 95)
    assert np.median(data["flair"][oedema]) > 1.3 * np.median(data["flair"][rest])
    assert np.median(data["t2"][oedema]) > 1.3 * np.median(data["t2"][rest])
    assert np.median(data["t1"][oedema]) < np.median(data["t1"][rest])


def test_the_chosen_flair_slice_crosses_the_lesion(study: dict[Modality, Path], truth: Volume) -> None:
    chosen = representative_slices(read_nifti(study["flair"], Limits()))[0]
    assert slice_areas(truth, {1, 2, 3}, "axial")[chosen] > 0


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    one, same, other = (
        synthetic_study(tmp_path / name, seed, resolution_mm=4)["flair"].read_bytes()
        for name, seed in (("one", 3), ("same", 3), ("other", 4))
    )
    assert one == same
    assert one != other
