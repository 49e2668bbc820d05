"""Brain MRI uploads: what gets in, what is refused with which reason, and that nothing of it is left behind."""

import gzip
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import nibabel
import numpy as np
import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from functions import ingest, studies, upload
from shared.db.models import StudyFile, Tenant
from shared.events import InferenceRequested, StudyIngested
from shared.runtime import Function, Services, UnitOfWork
from shared.runtime.postgres_bus import PostgresBus
from shared.security.sealing import BrokenSeal, name_ring

SHAPE = (64, 72, 60)
SPACING = 2.5
SECONDS = 20
PROBLEM = "application/problem+json"
LogIn = Callable[[TestClient, str], dict[str, str]]


class Clinic:
    """One logged-in user of upload, ingest and studies."""

    def __init__(self, client: TestClient, headers: dict[str, str]) -> None:
        self.client = client
        self.headers = headers

    def send(self, *files: tuple[str, bytes], **fields: str) -> Any:
        parts = [("files", file) for file in files]
        return self.client.post("/api/process-mri", files=parts, data=fields, headers=self.headers)

    def get(self, path: str) -> Any:
        return self.client.get(f"/api/{path}", headers=self.headers)

    def settled(self, *files: tuple[str, bytes], **fields: str) -> dict[str, Any]:
        """Send, and wait until ingest has decided and tidied up."""
        sent = self.send(*files, **fields)
        assert sent.status_code == 202, sent.text
        return self.decided(sent.json()["id"])

    def decided(self, study_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while True:
            study: dict[str, Any] = self.get(f"studies/{study_id}").json()
            received = [file for file in study["files"] if file["role"] == "received"]
            if study["status"] != "receiving" and not received:
                return study
            assert time.monotonic() < deadline, study
            time.sleep(0.02)


@pytest.fixture
def clinic(services: Services, client_for, register_and_login: LogIn) -> Iterator[Clinic]:
    client = client_for(upload.function, studies.function)
    consumer = PostgresBus(services.database).consumer(ingest.function, services)
    consumer.start()
    yield Clinic(client, register_and_login(client, "mrs-radiologist"))
    consumer.stop(SECONDS)


def voxels(seed: int = 1, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 900, shape).astype(np.int16)


def nifti(data: np.ndarray | None = None, affine: np.ndarray | None = None) -> bytes:
    image = nibabel.Nifti1Image(
        voxels() if data is None else data, np.diag([SPACING] * 3 + [1.0]) if affine is None else affine
    )
    return image.to_bytes()


def compressed(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def study_of_four() -> list[tuple[str, bytes]]:
    return [
        (f"case_{name}.nii.gz", compressed(nifti(voxels(n))))
        for n, name in enumerate(("t1", "t1ce", "t2", "flair"))
    ]


def left_behind(services: Services) -> list[str]:
    """Every object that there is of studies and of what was received for them."""
    return [ref.key for bucket in ("incoming", "studies") for ref in services.storage.list_objects(bucket)]


def tenant_of(services: Services) -> UUID:
    """The tenant in which everybody is who registers here."""
    with services.database.system() as session:
        return session.scalars(select(Tenant.id).where(Tenant.slug == "default")).one()


def test_four_sequences_are_ingested_and_told_apart_by_their_names(clinic: Clinic) -> None:
    study = clinic.settled(*study_of_four(), patientName="Ada Example")
    assert study["status"] == "ingested"
    assert study["patient_name"] == "Ada Example"
    assert study["patient_id"].startswith("PAT-")
    assert {file["modality"]: file["details"]["modality_source"] for file in study["files"]} == dict.fromkeys(
        ("t1", "t1ce", "t2", "flair"), "filename"
    )
    assert study["files"][0]["details"]["shape"] == list(SHAPE)


def test_the_form_tells_the_sequence_by_a_list_or_by_the_fields_name(clinic: Clinic) -> None:
    listed = clinic.settled(("a.nii", nifti(voxels(5))), ("b.nii", nifti(voxels(6))), modalities="flair, t2")
    assert {file["filename"]: file["modality"] for file in listed["files"]} == {
        "a.nii": "flair",
        "b.nii": "t2",
    }
    parts = {"t1ce": ("x.nii", nifti(voxels(7)))}
    sent = clinic.client.post("/process-mri/", files=parts, headers=clinic.headers)
    assert sent.status_code == 202
    [file] = clinic.decided(sent.json()["id"])["files"]
    assert (file["modality"], file["details"]["modality_source"]) == ("t1ce", "form")


def test_an_ingested_study_is_announced_once(services: Services, clinic: Clinic) -> None:
    seen: list[StudyIngested] = []
    listener = Function("listener")

    @listener.on(StudyIngested)
    def note(event: StudyIngested, unit: UnitOfWork) -> None:
        seen.append(event)

    consumer = PostgresBus(services.database).consumer(listener, services)
    consumer.start()
    study = clinic.settled(*study_of_four())
    deadline = time.monotonic() + SECONDS
    while not seen:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    consumer.stop(SECONDS)
    assert [str(event.study_id) for event in seen] == [study["id"]]
    assert InferenceRequested not in ingest.function.handlers


def test_the_same_files_are_the_same_study_unless_asked_otherwise(services: Services, clinic: Clinic) -> None:
    first = clinic.send(*study_of_four())
    stored = left_behind(services)
    again = clinic.send(*reversed(study_of_four()))
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["known"] is True
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["location"] == f"/api/scans/{first.json()['id']}"
    assert left_behind(services) == stored
    other = clinic.send(*study_of_four(), duplicate="true")
    assert other.status_code == 202
    assert other.json()["id"] != first.json()["id"]


def test_another_users_same_files_are_another_study_and_nobody_elses_is_seen(
    clinic: Clinic, register_and_login: LogIn
) -> None:
    mine = clinic.send(*study_of_four()).json()
    stranger = Clinic(clinic.client, register_and_login(clinic.client, "somebody-else"))
    theirs = stranger.send(*study_of_four())
    assert theirs.status_code == 202
    assert theirs.json()["id"] != mine["id"]
    for path in (
        f"scans/{mine['id']}",
        f"studies/{mine['id']}",
        f"studies/{mine['id']}/artifacts",
        f"studies/{mine['id']}/artifacts/mask",
    ):
        refused = stranger.get(path)
        assert refused.status_code == 404
        assert refused.headers["content-type"] == PROBLEM
    assert [item["id"] for item in stranger.get("scans").json()["items"]] == [theirs.json()["id"]]


def test_lists_are_paged_newest_first(clinic: Clinic) -> None:
    sent = [clinic.send(("a_t1.nii.gz", compressed(nifti(voxels(n))))).json()["id"] for n in range(5)]
    page = clinic.get("scans?limit=2")
    assert [item["id"] for item in page.json()["items"]] == sent[:2:-1]
    assert 'rel="next"' in page.headers["link"]
    rest = clinic.get(f"scans?limit=200&cursor={page.json()['next_cursor']}").json()
    assert [item["id"] for item in rest["items"]] == sent[2::-1]
    assert rest["next_cursor"] is None


REFUSED_AT_THE_DOOR = {
    "a text file": b"The patient was well.\n" * 40,
    "an empty file": b"",
    "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(600),
    "a gzipped text": compressed(b"no image " * 200),
    "gzip's magic and nothing else": b"\x1f\x8b",
}


@pytest.mark.parametrize("what", REFUSED_AT_THE_DOOR)
def test_what_is_no_nifti_is_refused_at_once(services: Services, clinic: Clinic, what: str) -> None:
    answer = clinic.send(("john_doe_flair.nii.gz", REFUSED_AT_THE_DOOR[what]))
    assert answer.status_code == 415
    assert answer.headers["content-type"] == PROBLEM
    assert "file 1" in answer.json()["detail"]
    assert "john" not in answer.text
    assert left_behind(services) == []
    assert clinic.get("studies").json()["items"] == []


def four_gigabytes_of_zeros() -> bytes:
    """A header and 4 GiB that were never there: one flushed deflate block of 16 MiB, 256 times."""
    header = bytearray(nifti()[:352])
    header[40:56] = struct.pack("<8h", 3, 1024, 1024, 2048, 1, 1, 1, 1)
    deflate = zlib.compressobj(9, wbits=31)
    begin = deflate.compress(bytes(header)) + deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(bytes(1 << 24)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return begin + block * 256 + deflate.flush()


def with_nan() -> bytes:
    data = voxels().astype(np.float32)
    data[3, 4, 5] = np.nan
    return nifti(data)


def truncated_gzip() -> bytes:
    whole = compressed(nifti())
    return whole[: len(whole) // 2]


REJECTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "a truncated .nii.gz": (truncated_gzip, "truncated|ends|cut"),
    "a 2D image": (lambda: nifti(voxels(shape=(64, 64, 1))), "2D"),
    "a series of volumes": (lambda: nifti(voxels(shape=(40, 40, 40, 3))), "4D|several|volumes"),
    "not-a-number voxels": (with_nan, "NaN"),
    "4 GB of zeros, gzipped": (four_gigabytes_of_zeros, "large|limit|bytes"),
    "a constant image": (lambda: nifti(np.full(SHAPE, 7, np.int16)), "same value"),
    "a matchbox": (lambda: nifti(voxels(), np.eye(4) * 0.3), "covers|spacing"),
}


@pytest.mark.parametrize("what", REJECTED)
def test_what_cannot_be_used_is_rejected_with_its_reason(
    services: Services, clinic: Clinic, what: str
) -> None:
    make, reason = REJECTED[what]
    study = clinic.settled(("jane_roe_flair.nii.gz", make()))
    assert study["status"] == "rejected"
    assert study["message"].startswith("file 1")
    assert re.search(reason, study["message"]), study["message"]
    assert "jane" not in study["message"]
    assert_gone(services)


def assert_gone(services: Services) -> None:
    deadline = time.monotonic() + SECONDS
    while left_behind(services):
        assert time.monotonic() < deadline, "objects of a rejected study are left"
        time.sleep(0.02)


def test_scans_of_different_regions_are_rejected_together(services: Services, clinic: Clinic) -> None:
    small = nifti(voxels(3, (30, 30, 30)))
    study = clinic.settled(("a_t1.nii", nifti(voxels(2))), ("a_t2.nii", small))
    assert study["status"] == "rejected"
    assert "different regions" in study["message"]
    assert_gone(services)


def test_other_grids_of_one_region_are_taken(clinic: Clinic) -> None:
    coarse = nifti(voxels(3, (32, 36, 30)), np.diag([2 * SPACING] * 3 + [1.0]))
    assert clinic.settled(("a_t1.nii", nifti(voxels(2))), ("a_t2.nii", coarse))["status"] == "ingested"


def test_a_rejected_study_may_be_sent_again(clinic: Clinic) -> None:
    bad = ("a_flair.nii.gz", truncated_gzip())
    first = clinic.settled(bad)
    again = clinic.send(bad)
    assert again.status_code == 202
    assert again.json()["id"] != first["id"]


@pytest.mark.parametrize(
    ("files", "fields", "says"),
    [
        ([], {}, "1 to 4"),
        ([("a_t1.nii", nifti(voxels(n))) for n in range(5)], {}, "not 5"),
        ([("a_t1.nii", nifti()), ("b_t2.nii", nifti())], {}, "same content"),
        ([("a.nii", nifti())], {"modalities": "t1,t2"}, "2 sequences for 1 files"),
        ([("a_t1.nii", nifti())], {"patient_id": "../../etc"}, "patient_id"),
        ([("a_t1.nii", nifti())], {"scan_date": "yesterday"}, "scan_date: a date is written YYYY-MM-DD"),
        ([("a_t1.nii", nifti())], {"scan_date": "0"}, "scan_date: a date is written YYYY-MM-DD"),
        ([("a_t1.nii", nifti())], {"scanDate": "2024-02-30"}, "scanDate"),
        ([("a.nii", nifti())], {"modalities": "t1\0"}, "'modalities' takes t1, t1ce, t2, flair"),
        ([("a.nii", nifti())], {"modalities": "Jane Doe"}, "'modalities' takes t1, t1ce, t2, flair"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    services: Services, clinic: Clinic, files: list, fields: dict, says: str
) -> None:
    answer = clinic.send(*files, **fields)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == PROBLEM
    assert says in answer.json()["detail"]
    assert left_behind(services) == []


@pytest.mark.parametrize("field", ["files", "t2"])
def test_a_part_without_a_file_name_is_refused_by_the_name_of_its_field(
    services: Services, clinic: Clinic, field: str
) -> None:
    head = f'--x\r\nContent-Disposition: form-data; name="{field}"; filename=""\r\n\r\n'.encode()
    answer = clinic.client.post(
        "/process-mri",
        content=head + nifti() + b"\r\n--x--\r\n",
        headers=clinic.headers | {"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code == 422
    assert f"'{field}' came without a name" in answer.json()["detail"]
    assert left_behind(services) == []


def test_a_file_name_is_stored_short_and_without_control_characters(clinic: Clinic) -> None:
    long = clinic.settled(("x" * 3000 + "_flair.nii", nifti()))
    assert long["files"][0]["filename"] == "x" * 245 + "_flair.nii"
    assert (long["status"], long["files"][0]["modality"]) == ("ingested", "flair")
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a\0b_t2.nii"\r\n\r\n'
    sent = clinic.client.post(
        "/process-mri",
        content=head + nifti(voxels(9)) + b"\r\n--x--\r\n",
        headers=clinic.headers | {"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert sent.status_code == 202
    assert clinic.decided(sent.json()["id"])["files"][0]["filename"] == "a_b_t2.nii"


def test_a_file_name_is_stored_sealed_for_its_own_row(services: Services, clinic: Clinic) -> None:
    study = clinic.settled(("Doe_Jane_flair.nii", nifti()), ("Doe_Jane_t2.nii", nifti(voxels(9))))
    assert {file["filename"]: file["modality"] for file in study["files"]} == {
        "Doe_Jane_flair.nii": "flair",
        "Doe_Jane_t2.nii": "t2",
    }
    with services.database.tenant(tenant_of(services)) as session:
        rows = session.scalars(select(StudyFile)).all()
    assert [row.filename for row in rows] == [None, None]
    names = services.once(name_ring)
    assert sorted(map(names.filename, rows)) == ["Doe_Jane_flair.nii", "Doe_Jane_t2.nii"]
    one, other = (row.filename_sealed for row in rows)
    assert one and other and b"Doe" not in one + other
    with pytest.raises(BrokenSeal):
        names.open(one, rows[1].id)


def test_modalities_are_taken_in_either_case_and_may_leave_a_file_to_its_name(clinic: Clinic) -> None:
    files = ("a.nii", nifti(voxels(5))), ("b_t2.nii", nifti(voxels(6)))
    study = clinic.settled(*files, modalities="T1CE,")
    assert {file["filename"]: file["modality"] for file in study["files"]} == {
        "a.nii": "t1ce",
        "b_t2.nii": "t2",
    }
    again = clinic.send(*files, modalities="t1ce,")
    assert (again.status_code, again.json()["id"]) == (200, study["id"])


def test_volumes_that_are_too_much_together_are_rejected_with_the_limit(
    services: Services, clinic: Clinic
) -> None:
    services.settings.max_volume_bytes = 1 << 20  # one volume has 0.53 MiB
    study = clinic.settled(*study_of_four())
    assert study["status"] == "rejected"
    assert "take 2 MiB when decompressed; the limit is 1 MiB" in study["message"]
    assert_gone(services)


def test_without_a_token_nothing_is_taken(services: Services, clinic: Clinic) -> None:
    answer = clinic.client.post("/api/process-mri", files=[("files", ("a_t1.nii", nifti()))])
    assert answer.status_code == 401
    assert left_behind(services) == []


def test_a_body_over_the_limit_is_refused(services: Services, client_for, register_and_login: LogIn) -> None:
    services.settings.max_upload_bytes = 200_000
    client = client_for(upload.function)
    clinic = Clinic(client, register_and_login(client, "big-sender"))
    answer = clinic.send(("a_t1.nii", nifti()))
    assert answer.status_code == 413
    assert "200000 bytes" in answer.json()["detail"]


def test_a_signed_link_reads_an_object_until_it_is_altered(services: Services, client_for) -> None:
    from datetime import timedelta

    from functions.upload.storage_routes import url_signer
    from shared.storage.folder import FolderStorage

    client = client_for(upload.function)
    store = FolderStorage(services.settings.objects_dir, services.once(url_signer), "http://testserver")
    services.storage = store
    store.put("studies", "a/mask.nii.gz", b"voxels")
    link = store.sign_get("studies", "a/mask.nii.gz", timedelta(minutes=1), "mask.nii.gz")
    answer = client.get(link)
    assert (answer.status_code, answer.content) == (200, b"voxels")
    assert "mask.nii.gz" in answer.headers["content-disposition"]
    assert client.get(link.replace("mask.nii.gz?", "other.nii.gz?")).status_code == 403
    upload_id = store.start_multipart("studies", "b/big.bin")
    part = client.put(
        store.sign_part("studies", "b/big.bin", upload_id, 1, timedelta(minutes=1)), content=b"x" * 10
    )
    assert part.status_code == 200
    ref = store.complete_multipart(
        "studies", "b/big.bin", upload_id, store.list_parts("studies", "b/big.bin", upload_id)
    )
    assert ref.size == 10
    assert Path(services.settings.objects_dir, "studies", "b", "big.bin").read_bytes() == b"x" * 10
