"""The client against the real routes, behind a real server on a loopback port."""

import asyncio
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from shared.client import AsyncClient, CallFailed, Client, Patience, Progress, Sending
from shared.client import submission as limits
from shared.config import Settings
from shared.db.models import Study, StudyFile, Tenant
from shared.db.session import Database
from shared.runtime.services import Services
from tests.builders import nifti_file, nifti_header, nifti_voxels
from tests.contract.conftest import PASSWORD
from tests.integration.product import running_product

MIB = 1 << 20
EMAIL = "anna@hospital.example"


@dataclass
class Product:
    services: Services
    url: str
    http: httpx.Client

    def rows(self, model: Any) -> list[Any]:
        with self.services.database.system() as session:
            (tenant_id,) = session.scalars(select(Tenant.id)).all()
        with self.services.database.tenant(tenant_id) as session:
            return list(session.scalars(select(model).order_by(model.id)))

    def stored(self, file: StudyFile) -> bytes:
        with self.services.storage.open(file.bucket, file.key) as stream:
            return stream.read()


@pytest.fixture
def product(settings: Settings, database: Database) -> Iterator[Product]:
    cheap = settings.model_copy(update={"bcrypt_cost": 4})
    with running_product(cheap, database) as (services, http):
        yield Product(services, str(http.base_url).removesuffix("/api/"), http)


@pytest.fixture
def client(product: Product) -> Iterator[Client]:
    with Client(product.url, patience=Patience(10, 0.05, 0.2)) as client:
        client.register(EMAIL, PASSWORD)
        client.login(EMAIL, PASSWORD)
        yield client


@pytest.fixture
def sending(tmp_path: Path) -> Sending:
    return Sending(state_dir=tmp_path / "state")


@pytest.fixture
def big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of two and a half parts, too large for one request."""
    monkeypatch.setattr(limits, "ONE_REQUEST_BYTES", MIB)
    monkeypatch.setattr(limits, "IN_PARTS_BYTES", MIB)
    path = tmp_path / "scan.nii"
    path.write_bytes(nifti_header((512, 512, 80)) + os.urandom(40 * MIB))
    return path


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return nifti_file(tmp_path / "t1.nii.gz", nifti_header(), nifti_voxels())


def test_a_small_file_becomes_a_study_in_one_request(product: Product, client: Client, volume: Path) -> None:
    study = client.submit(volume, kind="brain-mri", modalities=["flair"], patient_id="P-1", name="Knee")
    assert (study.kind, study.status, study.known) == ("brain-mri", "receiving", False)
    (row,), (file,) = product.rows(Study), product.rows(StudyFile)
    assert (str(row.id), row.patient_id) == (study.id, "P-1")
    assert file.declared_modality == "flair"
    assert product.stored(file) == volume.read_bytes()
    assert client.submit([volume], kind="brain-mri", modalities=["flair"]).known


def test_a_large_file_goes_in_parts_and_its_hash_is_told(
    product: Product, client: Client, big: Path, sending: Sending
) -> None:
    told: list[Progress] = []
    study = client.submit(big, replace(sending, on_progress=told.append), kind="brain-mri")
    (row,), (file,) = product.rows(Study), product.rows(StudyFile)
    content = big.read_bytes()
    assert str(row.id) == study.id
    assert product.stored(file) == content
    assert file.details["declared_sha256"] == hashlib.sha256(content).hexdigest()
    assert told[-1] == Progress(len(content), len(content), 0)
    assert all(later.done > earlier.done for earlier, later in pairwise(told))


def test_several_files_become_one_study_whichever_way_each_goes(
    product: Product, client: Client, big: Path, volume: Path, sending: Sending
) -> None:
    study = client.submit(
        [big, volume], sending, kind="brain-mri", modalities=["t1", "t2"], name="Head", patient_id="P-1"
    )
    (row,), files = product.rows(Study), product.rows(StudyFile)
    assert (str(row.id), row.patient_id, row.name_sealed is not None) == (study.id, "P-1", True)
    by_modality = {file.declared_modality: product.stored(file) for file in files}
    assert by_modality == {"t1": big.read_bytes(), "t2": volume.read_bytes()}


def test_what_was_cut_off_goes_on_and_no_part_is_sent_twice(
    product: Product, client: Client, big: Path, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Exception):
        pass

    send, confirmed = httpx.AsyncClient.send, list[str]()

    async def note_parts(self: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        response = await send(self, request, **options)
        if request.method == "PUT" and response.is_success:
            confirmed.append(request.url.params["number"])
        return response

    def stop(progress: Progress) -> None:
        if confirmed:
            raise Stopped

    monkeypatch.setattr(httpx.AsyncClient, "send", note_parts)
    with pytest.raises(Stopped):
        client.submit(big, replace(sending, parallel=1, on_progress=stop), kind="brain-mri")
    before, told = list(confirmed), list[Progress]()
    client.submit(big, replace(sending, resume=True, on_progress=told.append), kind="brain-mri")
    assert before == ["1"]
    assert sorted(confirmed) == ["1", "2", "3"]
    assert told[0].before == 16 * MIB
    (file,) = product.rows(StudyFile)
    assert product.stored(file) == big.read_bytes()


def test_an_upload_is_listed_and_given_up(client: Client, big: Path, sending: Sending) -> None:
    upload = client.upload(big, sending)
    assert (upload.status, upload.study_id) == ("finished", None)
    (listed,) = client.uploads.list().items
    assert listed.id == upload.id
    client.uploads.abort(upload.id)
    assert client.uploads.get(upload.id).status == "aborted"


def test_studies_are_listed_read_and_removed(client: Client, volume: Path, tmp_path: Path) -> None:
    first = client.submit(volume, kind="brain-mri")
    second = client.submit(volume, kind="brain-mri", duplicate=True)
    page = client.studies.list(limit=1)
    assert [study.id for study in page.items] == [second.id]
    rest = client.studies.list(cursor=page.next_cursor, kind="brain-mri", status="receiving")
    assert ([study.id for study in rest.items], rest.next_cursor) == ([first.id], None)
    assert client.studies.get(first.id).files[0].size == volume.stat().st_size
    client.studies.delete(first.id)
    with pytest.raises(CallFailed) as caught:
        client.studies.get(first.id)
    assert (caught.value.status, (caught.value.type or "").rpartition("/")[2]) == (404, "not-found")
    with pytest.raises(CallFailed, match="after 0 s"):
        client.wait(second, seconds=0)


def test_what_the_server_refuses_is_told_in_its_words(client: Client, tmp_path: Path, volume: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    with pytest.raises(CallFailed) as caught:
        client.submit(text)
    assert (caught.value.status, caught.value.passing) == (415, False)
    with pytest.raises(CallFailed, match="kind"):
        client.submit(volume, kind="knee")
    with pytest.raises(CallFailed, match=r"[Pp]assword|log in|credentials"):
        client.login(EMAIL, "a wrong passphrase")


def test_a_folder_is_taken_as_an_archive(product: Product, client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    for number in range(3):
        (folder / f"IM{number}").write_bytes(bytes(128) + b"DICM" + bytes([number]) * 1000)
    study = client.submit(folder, kind="ct")
    (file,) = product.rows(StudyFile)
    assert (str(file.study_id), file.media_type) == (study.id, "application/x-tar")
    assert client.submit(folder, kind="ct").known


def test_both_clients_do_the_same(product: Product, client: Client, volume: Path) -> None:
    async def send() -> tuple[str, bool]:
        async with AsyncClient(product.url) as other:
            await other.login(EMAIL, PASSWORD)
            study = await other.submit(volume, kind="brain-mri")
            return (await other.studies.get(study.id)).id, study.known

    first = client.submit(volume, kind="brain-mri")
    assert asyncio.run(send()) == (first.id, True)


def test_both_clients_have_the_same_surface() -> None:
    def surface(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert surface(Client) == surface(AsyncClient)


def test_an_answer_that_is_lost_makes_nothing_twice(
    product: Product, client: Client, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.studies.list()  # from now on the server is known to be there
    send, lost = httpx.AsyncClient.send, []

    async def lose_first(self: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        response = await send(self, request, **options)
        if request.method == "POST" and not lost:
            lost.append(response.status_code)
            raise httpx.ReadError("the connection broke")
        return response

    monkeypatch.setattr(httpx.AsyncClient, "send", lose_first)
    study = client.submit(volume, kind="brain-mri", duplicate=True)
    assert lost == [202]
    assert [str(row.id) for row in product.rows(Study)] == [study.id]


def test_no_thread_is_left_when_a_client_is_closed(product: Product) -> None:
    def running() -> int:
        return sum(thread.name == "hounsfield-client" for thread in threading.enumerate())

    before = running()
    with Client(product.url, "hsk_key"):
        assert running() == before + 1
    assert running() == before
