"""Real services that the end-to-end tests run against, each started once."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from tests.e2e import browser as chromium
from tests.e2e.ceph import Ceph, installed, running


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """A Ceph gateway with empty storage, or a loud skip where its packages are missing."""
    if not installed():
        pytest.skip("CEPH MISSING: run `python -m tests.e2e.ceph install` as root")
    with tempfile.TemporaryDirectory(prefix="ceph-") as folder, running(Path(folder)) as ceph:
        yield ceph


@pytest.fixture(scope="session")
def chromium_is_installed() -> None:
    """A loud skip where its package is missing."""
    if not chromium.installed():
        pytest.skip("CHROMIUM MISSING: run `python -m tests.e2e.browser install` as root")


@pytest.fixture
def browser(chromium_is_installed: None) -> Iterator[BrowserContext]:
    """Chromium with an empty profile."""
    with chromium.fresh_browser() as browser:
        yield browser
