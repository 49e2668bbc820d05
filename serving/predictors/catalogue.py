"""Reading a folder of model packages: `<name>/` or `<name>/<version>/`, each with a model.yaml."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from serving.predictors.package import InvalidPackage, ModelPackage, load_package

Catalogue: TypeAlias = dict[tuple[str, str], ModelPackage]
"""(name, version) → package."""


def package_folders(folder: Path) -> list[Path]:
    """Every folder one or two levels down that has a model.yaml, by path."""
    manifests = [*folder.glob("*/model.yaml"), *folder.glob("*/*/model.yaml")]
    return sorted(manifest.parent for manifest in manifests)


def read_catalogue(folder: Path, rejected: list[InvalidPackage] | None = None) -> Catalogue:
    """Every package under `folder`, checked.

    The first invalid package, or second of the same name and version, raises InvalidPackage; with a `rejected` list
    they are put there instead and the others are still read.
    """
    if not folder.is_dir():
        raise InvalidPackage(f"no catalogue folder {folder}")
    packages: Catalogue = {}
    for path in package_folders(folder):
        try:
            _add(packages, load_package(path))
        except InvalidPackage as error:
            if rejected is None:
                raise
            rejected.append(error)
    return packages


def latest(versions: Iterable[str]) -> str:
    """The highest version: runs of digits compare as numbers, so 1.10.0 comes after 1.9.0."""
    return max(versions, key=_version_order)


def _add(packages: Catalogue, package: ModelPackage) -> None:
    key = package.manifest.name, package.manifest.version
    if key in packages:
        raise InvalidPackage(
            f"{package.folder.name}: {key[0]} {key[1]} is already in {packages[key].folder.name}"
        )
    packages[key] = package


def _version_order(version: str) -> list[tuple[bool, int, str]]:
    """A number is higher than a word at the same place, and `1.0.0` than `1.0.0-rc1`."""
    release, _, pre = version.partition("-")
    runs = re.findall(r"\d+|[A-Za-z]+", release)
    parts = [(True, int(run), "") if run.isdigit() else (False, 0, run) for run in runs]
    return [*parts, (not pre, 0, pre)]
