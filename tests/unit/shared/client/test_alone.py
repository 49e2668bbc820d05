"""`pip install hounsfield[client]` is enough for the client, `hounsfield[cli]` for `hounsfield submit`."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[4]
WITHOUT = """
import json, sys
from importlib.abc import MetaPathFinder

class Without(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)

absent = set(json.loads(sys.argv.pop(1)))
sys.meta_path.insert(0, Without())
"""


def extra(name: str) -> set[str]:
    """The packages that an extra names, those of the extras that it names in turn included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == []
    named: set[str] = set()
    for requirement in project["optional-dependencies"][name]:
        inner = re.fullmatch(r"hounsfield\[(.+)\]", requirement)
        named |= set().union(*map(extra, inner[1].split(","))) if inner else {package(requirement)}
    return named


def package(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return found[0].lower().replace("_", "-")


def installed_by(name: str) -> set[str]:
    """The modules that installing an extra brings, what its packages need included."""
    packages, waiting = set[str](), extra(name)
    while waiting:
        one = waiting.pop()
        packages.add(one)
        needs = map(Requirement, metadata.requires(one) or [])
        here = [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
        waiting |= set(map(package, here)) - packages
    modules = metadata.packages_distributions().items()
    return {module for module, owners in modules if packages & set(map(package, owners))}


def run(allowed: set[str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    absent = {*metadata.packages_distributions(), "functions", "serving"} - allowed
    command = [sys.executable, "-c", WITHOUT + code, json.dumps(sorted(absent)), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_client_needs_httpx_and_nothing_of_the_server() -> None:
    assert extra("client") == {"httpx", "anyio"}
    allowed = installed_by("client") | {"shared"}
    assert allowed <= {"httpx", "httpcore", "h11", "anyio", "certifi", "idna", "typing_extensions", "shared"}
    code = """
import shared.client
from shared.client import AsyncClient, Client
Client("http://127.0.0.1:9", "token").close()
print(json.dumps(sorted(name for name in sys.modules if name.startswith(("shared", "functions", "serving")))))
"""
    done = run(allowed, code)
    assert done.returncode == 0, done.stderr
    used = json.loads(done.stdout)
    assert {name for name in used if not name.startswith("shared.client")} == {"shared"}


@pytest.mark.parametrize("command", ["submit", "studies"])
def test_the_command_that_submits_needs_no_server_package(command: str) -> None:
    allowed = installed_by("cli") | {"shared", "functions"}
    assert not allowed & {"sqlalchemy", "fastapi", "boto3", "numpy", "psycopg2", "cryptography", "yaml"}
    done = run(allowed, "from functions.cli import main; main()", command, "--help")
    assert done.returncode == 0, done.stderr
    assert "--url" in done.stdout or "list" in done.stdout


def test_a_command_of_the_server_says_what_it_needs() -> None:
    allowed = installed_by("cli") | {"shared", "functions"}
    done = run(allowed, "from functions.cli import main; main()", "migrate")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "hounsfield[local]" in done.stderr


def test_what_is_not_installed_would_be_noticed() -> None:
    done = run(installed_by("client") | {"shared"}, "import shared.events")
    assert "pydantic is not installed here" in done.stderr
