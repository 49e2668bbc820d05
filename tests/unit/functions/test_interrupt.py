"""`hounsfield` interrupted with Ctrl-C while it is loading."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
INTERRUPTED = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class CtrlC(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            del sys.argv[1]
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
from functions.cli import main
main()
"""


@pytest.mark.parametrize("module", ["typer", "pydantic_settings", "shared.client", "functions.cli.submit"])
def test_ctrl_c_while_it_loads_is_one_line_and_exit_code_130(module: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED, module, "submit", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Stopped.\n")
