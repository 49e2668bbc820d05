"""`hounsfield submit` and `hounsfield studies` as a user types them."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select

from shared.client import Client
from shared.config import Settings
from shared.db.models import Study, Tenant
from shared.db.session import Database
from tests.builders import nifti_file, nifti_header, nifti_voxels
from tests.contract.conftest import PASSWORD
from tests.integration.installation import free_port
from tests.integration.product import running_product

EMAIL = "anna@hospital.example"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def url(settings: Settings, database: Database) -> Iterator[str]:
    with running_product(settings.model_copy(update={"bcrypt_cost": 4}), database) as (_, http):
        url = str(http.base_url).removesuffix("/api/")
        with Client(url) as client:
            client.register(EMAIL, PASSWORD)
        yield url


@pytest.fixture
def hounsfield(url: str, tmp_path: Path) -> Run:
    said = {"URL": url, "USER": EMAIL, "PASSWORD": PASSWORD}
    environment = os.environ | {f"HOUNSFIELD_{name}": value for name, value in said.items()}
    environment |= {"XDG_STATE_HOME": str(tmp_path / "state"), "COLUMNS": "200"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from functions.cli import main; main()", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture
def volume(tmp_path: Path) -> str:
    return str(nifti_file(tmp_path / "t1.nii.gz", nifti_header(), nifti_voxels()))


def change(database: Database, **values: object) -> threading.Thread:
    """Does to the one study what ingest would, as soon as it is there."""

    def wait_and_change() -> None:
        for _ in range(1000):
            with database.system() as session:
                (tenant_id,) = session.scalars(select(Tenant.id)).all()
            with database.tenant(tenant_id) as session:
                if studies := session.scalars(select(Study)).all():
                    for name, value in values.items():
                        setattr(studies[0], name, value)
                    return
            time.sleep(0.02)

    thread = threading.Thread(target=wait_and_change)
    thread.start()
    return thread


def test_a_study_is_sent_shown_listed_and_removed(hounsfield: Run, volume: str) -> None:
    sent = hounsfield("submit", volume, "--kind", "brain-mri", "--modalities", "flair", "--patient-id", "P-1")
    assert (sent.returncode, sent.stderr) == (0, "")
    study_id = sent.stdout.removeprefix("study ").strip()
    assert str(UUID(study_id)) == study_id
    again = hounsfield("submit", volume, "--kind", "brain-mri", "--modalities", "flair")
    assert again.stdout == f"study {study_id} (these files were sent before)\n"
    (line,) = hounsfield("studies", "list").stdout.splitlines()
    assert line.split("\t")[:4] == [study_id, "brain-mri", "P-1", "receiving"]
    shown = json.loads(hounsfield("studies", "show", study_id).stdout)
    assert (shown["id"], shown["patient_id"]) == (study_id, "P-1")
    assert hounsfield("studies", "delete", study_id).stdout == f"study {study_id} is removed\n"
    gone = hounsfield("studies", "show", study_id)
    assert (gone.returncode, gone.stderr) == (1, f"hounsfield: no study {study_id}\n")


def test_a_program_gets_the_id_or_the_study_and_nothing_else(hounsfield: Run, volume: str) -> None:
    study_id = hounsfield("submit", volume, "--quiet").stdout.strip()
    assert str(UUID(study_id)) == study_id
    study = json.loads(hounsfield("submit", volume, "--json").stdout)
    assert (study["id"], study["files"][0]["size"]) == (study_id, Path(volume).stat().st_size)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"status": "rejected", "message": "no voxel differs"}, "the study is rejected: no voxel differs"),
        (
            {"held": ["text is burnt in"], "step": "held"},
            "held until a person has looked at it: text is burnt",
        ),
    ],
    ids=["rejected", "held"],
)
def test_a_study_that_ends_without_results_is_told_by_the_exit_code(
    hounsfield: Run, database: Database, volume: str, values: dict[str, object], why: str
) -> None:
    ingest = change(database, **values)
    done = hounsfield("submit", volume, "--wait")
    ingest.join()
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert why in done.stderr


def test_what_the_server_refuses_is_one_line(hounsfield: Run, volume: str, tmp_path: Path) -> None:
    text = tmp_path / "DOE^JANE.txt"
    text.write_text("no image")
    for arguments in ((str(text),), (volume, "--kind", "knee"), (volume, "--modalities", "t1,t2")):
        done = hounsfield("submit", *arguments)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
        assert done.stderr.startswith("hounsfield: ")
    wrong = hounsfield("submit", volume, "--password", "a wrong passphrase")
    assert (wrong.returncode, "passphrase" in wrong.stderr) == (1, False)
    nobody = hounsfield("submit", volume, "--url", f"http://127.0.0.1:{free_port()}")
    assert (nobody.returncode, "no answer from" in nobody.stderr) == (1, True)


def test_an_empty_path_is_not_the_folder_that_one_is_in(hounsfield: Run, volume: str) -> None:
    for paths in ([""], [volume, ""], ["not-there.nii"]):
        refused = hounsfield("submit", *paths)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"path {paths[-1]!r} does not exist" in refused.stderr
    assert hounsfield("studies", "list").stdout == ""


def test_what_is_left_out_of_a_folder_is_told(hounsfield: Run, volume: str) -> None:
    folder = Path(volume).parent / "series"
    folder.mkdir()
    (folder / "t1.nii.gz").write_bytes(Path(volume).read_bytes())
    (folder / ".hidden").write_bytes(b"x")
    done = hounsfield("submit", str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"note: {folder}: 1 left out (hidden, empty, links, or no files)\n"
