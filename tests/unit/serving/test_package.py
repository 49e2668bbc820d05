"""A package is loaded only when its manifest is whole and every file is the one that the manifest names."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.predictors.catalogue import latest, read_catalogue
from serving.predictors.package import InvalidPackage, load_package
from serving.predictors.registry import load
from tests.model_packages import write_package

MANIFEST: dict[str, Any] = {
    "name": "tiny",
    "task": "detection",
    "framework": "keras",
    "predictor": "slice-classifier",
    "weights": "model.bin",
    "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, -1, -1]}],
    "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}],
}


def package(catalogue: Path, folder: str = "tiny", **changes: Any) -> Path:
    path = catalogue / folder
    path.mkdir(parents=True)
    (path / "model.bin").write_bytes(b"weights")
    return write_package(path, MANIFEST | changes)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def test_a_whole_package_is_read(tmp_path: Path) -> None:
    folder = package(tmp_path)
    read = load_package(folder)
    assert (read.manifest.name, read.manifest.version) == ("tiny", "1.0.0")
    assert read.weights == folder / "model.bin"


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    folder = package(tmp_path)
    (folder / "model.bin").write_bytes(b"Weights")
    with pytest.raises(InvalidPackage, match=r"'model\.bin' does not have the sha256"):
        load_package(folder)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    folder = package(tmp_path)
    (folder / "model.bin").unlink()
    with pytest.raises(InvalidPackage, match="not a plain file inside the package"):
        load_package(folder)


def test_weights_that_no_checksum_covers_are_refused(tmp_path: Path) -> None:
    folder = package(tmp_path)
    edit(folder, files={})
    with pytest.raises(InvalidPackage, match="does not list the weights file"):
        load_package(folder)


def test_a_file_outside_the_package_is_refused(tmp_path: Path) -> None:
    folder = package(tmp_path)
    (tmp_path / "outside").write_bytes(b"")
    edit(folder, files={"model.bin": "0" * 64, "../outside": "0" * 64}, weights="../outside")
    with pytest.raises(InvalidPackage):
        load_package(folder)


def test_a_link_is_refused(tmp_path: Path) -> None:
    folder = package(tmp_path)
    (tmp_path / "outside").write_bytes(b"weights")
    (folder / "model.bin").unlink()
    (folder / "model.bin").symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidPackage, match="not a plain file inside the package"):
        load_package(folder)


@pytest.mark.parametrize(
    "change",
    [{"framework": "pickle"}, {"name": "../evil"}, {"version": "1/0"}, {"surprise": 1}, {"inputs": "image"}],
)
def test_a_manifest_that_is_not_as_described_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = package(tmp_path)
    edit(folder, **change)
    with pytest.raises(InvalidPackage, match=r"model\.yaml is not valid"):
        load_package(folder)


def test_yaml_that_would_run_code_is_refused(tmp_path: Path) -> None:
    folder = package(tmp_path)
    (folder / "model.yaml").write_text("!!python/object/apply:os.getcwd []")
    with pytest.raises(InvalidPackage, match=r"model\.yaml is not valid"):
        load_package(folder)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPackage, match=r"no model\.yaml"):
        load_package(tmp_path)


def test_an_unknown_predictor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPackage, match="unknown predictor 'oracle'"):
        load(load_package(package(tmp_path, predictor="oracle")))


def test_a_catalogue_holds_packages_by_name_or_by_name_and_version(tmp_path: Path) -> None:
    package(tmp_path, "flat", name="flat")
    package(tmp_path, "deep/1.0.0", name="deep")
    package(tmp_path, "deep/1.1.0", name="deep", version="1.1.0")
    (tmp_path / "no-package").mkdir()
    assert set(read_catalogue(tmp_path)) == {("flat", "1.0.0"), ("deep", "1.0.0"), ("deep", "1.1.0")}


def test_one_bad_package_leaves_the_others_in_service(tmp_path: Path) -> None:
    package(tmp_path, "good", name="good")
    (package(tmp_path, "bad", name="bad") / "model.bin").write_bytes(b"altered")
    rejected: list[InvalidPackage] = []
    assert set(read_catalogue(tmp_path, rejected)) == {("good", "1.0.0")}
    assert ["bad" in error.detail for error in rejected] == [True]
    with pytest.raises(InvalidPackage):
        read_catalogue(tmp_path)


def test_a_version_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    package(tmp_path, "one")
    package(tmp_path, "two")
    with pytest.raises(InvalidPackage, match=r"two: tiny 1\.0\.0 is already in one"):
        read_catalogue(tmp_path)


def test_a_catalogue_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPackage, match="no catalogue folder"):
        read_catalogue(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("versions", "highest"),
    [
        (["1.9.0", "1.10.0"], "1.10.0"),
        (["2.0.0-rc1", "2.0.0", "1.9.9"], "2.0.0"),
        (["1.0", "1.0.1"], "1.0.1"),
        (["1.0.0"], "1.0.0"),
    ],
)
def test_the_latest_version_is_the_highest_by_number(versions: list[str], highest: str) -> None:
    assert latest(versions) == highest
    assert latest(reversed(versions)) == highest
