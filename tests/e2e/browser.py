"""Chromium, Debian's, driven by Playwright.

python -m tests.e2e.browser install     # Debian package, as root
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import BrowserContext, sync_playwright

EXECUTABLE = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def installed() -> bool:
    """Whether the Debian package is there."""
    return EXECUTABLE.exists()


def install() -> None:
    """Install the Debian package; needs root."""
    if installed():
        print("Chromium is installed already.")
        return
    print("Installing Debian package: chromium", flush=True)
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", "chromium"]):
        subprocess.run(["apt-get", *command], check=True, env=quiet)


@contextmanager
def fresh_browser() -> Iterator[BrowserContext]:
    """A browser with an empty profile, which takes certificates of any authority."""
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=EXECUTABLE, args=ARGUMENTS, ignore_https_errors=True
        )
        try:
            yield context
        finally:
            context.close()


if __name__ == "__main__":
    if sys.argv[1:] != ["install"]:
        sys.exit(__doc__)
    install()
