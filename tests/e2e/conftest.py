"""Real services that the end-to-end tests run against, each started once."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ceph import Ceph, installed, running


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """A Ceph gateway with empty storage, or a loud skip where its packages are missing."""
    if not installed():
        pytest.skip("CEPH MISSING: run `python -m tests.e2e.ceph install` as root")
    with tempfile.TemporaryDirectory(prefix="ceph-") as folder, running(Path(folder)) as ceph:
        yield ceph
