"""DCMTK, the other side of DICOM's network: `python -m tests.e2e.dcmtk install` installs Debian's, as root."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

PACKAGES = ("dcmtk",)
PROGRAMS = ("echoscu", "findscu", "storescu")
SECONDS = 120


def is_installed() -> bool:
    """Whether the programs are there."""
    return all(shutil.which(program) for program in PROGRAMS)


def install() -> None:
    """Install the packages unless they are there. Needs root."""
    if is_installed():
        return
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", *command], check=True, env=quiet)


def run(
    program: str,
    port: int,
    *arguments: str,
    options: Sequence[str] = (),
    caller: str = "MODALITY",
    called: str = "HOUNSFIELD",
) -> "subprocess.CompletedProcess[str]":
    """One of the programs against the node at `port`; what it printed, both streams in stdout."""
    command = [program, "-aet", caller, "-aec", called, *options, "127.0.0.1", str(port), *arguments]
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SECONDS,
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.dcmtk", description="DCMTK for tests.")
    parser.add_argument("action", choices=["install"])
    parser.parse_args()
    install()
    return 0


if __name__ == "__main__":
    sys.exit(main())
