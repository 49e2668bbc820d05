"""A real model server and a real installation, as child processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.config import Settings
from shared.imaging.modality import MODALITIES
from shared.imaging.synthetic import synthetic_study
from shared.oip.server_process import ModelServerProcess


@pytest.fixture(scope="session")
def model_server(tmp_path_factory: pytest.TempPathFactory, objects_dir: Path) -> Iterator[ModelServerProcess]:
    """The catalogue's models on the folder store in `objects_dir`."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("models"), storage_url=objects_dir.as_uri())
    with ModelServerProcess(settings) as server:
        yield server


@pytest.fixture(scope="session")
def objects_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder store that the model server and the functions share."""
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="session")
def brain_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A synthetic four-sequence study."""
    made = synthetic_study(tmp_path_factory.mktemp("study"))
    return [made[modality] for modality in MODALITIES]
