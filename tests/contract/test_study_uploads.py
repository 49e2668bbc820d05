"""Studies in one request, cases image by image, slides, and an OCT image whose sender waits for the prediction."""

import gzip
import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import anyio
import pytest
from sqlalchemy import select, text, update
from sqlalchemy.pool import QueuePool

from functions.upload.oct import service as oct_service
from shared.db.models import (
    AuditEntry,
    Finding,
    InferenceTask,
    Report,
    Study,
    StudyFile,
    StudyStatus,
    TaskState,
    Upload,
)
from shared.ids import uuid7
from shared.intake import close_settled
from shared.runtime import Services
from shared.security.sealing import name_ring
from tests.builders import nifti_header, nifti_voxels
from tests.contract.sending import (
    MIB,
    NAME,
    Sender,
    announced,
    content,
    make_case,
    objects_in,
    rows,
    tenant_of,
)
from tests.unit.shared.formats import samples

FOUR = ("t1", "t1ce", "t2", "flair")


def nifti(seed: int = 0) -> bytes:
    return gzip.compress(nifti_header() + nifti_voxels(120 + seed), mtime=0)


def form(sender: Sender, path: str, *files: tuple[str, Any], **fields: Any) -> Any:
    return sender.client.post(f"/api/{path}", files=list(files), data=fields, headers=sender.headers)


def files(*contents: bytes, name: str = NAME) -> list[tuple[str, Any]]:
    return [("files", (name, one)) for one in contents]


def finished_upload(sender: Sender, data: bytes, **fields: Any) -> str:
    started = sender.start(len(data), **fields)
    sender.send(started, data)
    assert sender.finish(started, study=False).status_code == 202
    return str(started["id"])


# POST /studies


def test_a_slide_of_several_files_may_have_small_ones(services: Services, sender: Sender) -> None:
    levels = [samples.dicom(samples.WSI), samples.dicom(samples.WSI, preamble=b"x" * 128)]
    assert form(sender, "studies", *files(*levels), kind="slide").status_code == 202
    assert form(sender, "studies", *files(levels[0]), kind="slide").status_code == 422


def test_files_of_any_kind_become_a_study(services: Services, sender: Sender) -> None:
    series = [samples.dicom(), samples.dicom(preamble=b"x" * 128)]
    answer = form(
        sender,
        "studies",
        *files(*series),
        patientId="P-1",
        patientName="Zacharias Quibbleworth",
        scanDate="2026-03-05",
        name="Follow-up",
    )
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert answer.headers["location"] == f"/api/studies/{body['id']}"
    assert (body["kind"], body["status"], body["patient_id"], body["known"]) == (
        "ct",
        "receiving",
        "P-1",
        False,
    )
    [study] = rows(services, Study)
    names = services.once(name_ring)
    assert names.open_if_possible(study.patient_name_sealed, study.id) == "Zacharias Quibbleworth"
    assert names.open_if_possible(study.name_sealed, study.id) == "Follow-up"
    stored = rows(services, StudyFile)
    assert [(file.bucket, file.role, file.media_type) for file in stored] == [
        ("incoming", "received", "application/dicom")
    ] * 2
    assert {file.sha256 for file in stored} == {hashlib.sha256(one).hexdigest() for one in series}
    tenant_id = tenant_of(services)
    assert objects_in(services) == [f"uploads/{tenant_id}/{study.id}/{n}" for n in (1, 2)]
    assert announced(services) == [body["id"]]


SNIFFED = {
    "a volume": (nifti(), None),
    "an OCT file": (samples.e2e(), "oct"),
    "a CT image": (samples.dicom(), "ct"),
    "an archive": (samples.zipped(**{"a.dcm": b"x"}), None),
    "a photograph, or an OCT image": (samples.picture("PNG"), None),
}


@pytest.mark.parametrize("what", SNIFFED)
def test_the_kind_is_told_by_the_files_as_far_as_their_heads_tell(
    services: Services, sender: Sender, what: str
) -> None:
    data, kind = SNIFFED[what]
    assert form(sender, "studies", *files(data)).json()["kind"] == kind
    assert rows(services, Study)[0].kind == kind


def test_what_the_sender_says_of_the_kind_holds(sender: Sender) -> None:
    assert form(sender, "studies", *files(samples.picture("PNG")), kind="oct").json()["kind"] == "oct"


NOT_TAKEN: dict[str, tuple[list[tuple[str, Any]], dict[str, str], int, str]] = {
    "nothing at all": ([], {}, 422, "at least one file"),
    "a text": (
        files(b"The patient Quibbleworth was well.\n" * 9),
        {},
        415,
        "file 1: The file is a text file",
    ),
    "nothing in the file": (files(b""), {}, 415, "file 1: The file is empty"),
    "a program among images": (
        files(nifti(), b"\x7fELF" + bytes(99)),
        {},
        415,
        "file 2: The file is a program",
    ),
    "a PDF": (files(b"%PDF-1.7" + bytes(99)), {}, 415, "file 1: The file is a PDF document"),
    "an index alone": (files(samples.heyex_xml()), {}, 415, "file 1: A HEYEX XML export is the index"),
    "OCT as CT": (
        files(samples.e2e()),
        {"kind": "ct"},
        415,
        "file 1 is an OCT scan, not a CT; send it as kind oct",
    ),
    "a kind that there is not": (files(nifti()), {"kind": "x-ray"}, 422, "kind"),
    "a small slide": (files(samples.slide()), {"kind": "slide"}, 422, "1,048,576 or more"),
    "too few sequences named": (
        files(nifti(), nifti(1)),
        {"modalities": "t1"},
        422,
        "1 sequences for 2 files",
    ),
    "a patient's id that is a path": (files(nifti()), {"patientId": "../etc"}, 422, "patientId"),
    "a case that there is not": (files(nifti()), {"case_id": str(uuid7())}, 404, "no case"),
    "an upload that there is not": ([], {"uploads": str(uuid7())}, 404, "no upload"),
}


@pytest.mark.parametrize("what", NOT_TAKEN)
def test_what_is_plainly_wrong_is_refused_and_nothing_is_kept(
    services: Services, sender: Sender, what: str
) -> None:
    sent, fields, status, says = NOT_TAKEN[what]
    answer = form(sender, "studies", *sent, **fields)
    assert (answer.status_code, says in answer.json()["detail"]) == (status, True), answer.text
    assert "QUIBBLEWORTH" not in answer.text.upper()
    assert (rows(services, Study), objects_in(services)) == ([], [])


def test_the_same_files_are_the_same_study_unless_asked_otherwise(
    services: Services, sender: Sender, stranger: Sender
) -> None:
    first = form(sender, "studies", *files(nifti(), nifti(1)), kind="brain-mri")
    again = form(sender, "studies", *files(nifti(1), nifti()))
    assert (first.status_code, again.status_code, again.json()["known"]) == (202, 200, True)
    assert again.json()["id"] == first.json()["id"]
    other_kind = form(sender, "studies", *files(nifti(), nifti(1)), kind="ct")
    assert (other_kind.status_code, first.json()["id"] in other_kind.json()["detail"]) == (409, True)
    asked = form(sender, "studies", *files(nifti(), nifti(1)), duplicate="true")
    theirs = form(stranger, "studies", *files(nifti(), nifti(1)))
    assert [asked.status_code, theirs.status_code] == [202, 202]
    assert len(rows(services, Study)) == len(announced(services)) == 3


def test_of_the_same_files_sent_at_once_one_study_comes(services: Services, sender: Sender) -> None:
    together = threading.Barrier(4)

    def send(_: int) -> str:
        together.wait()
        return str(form(sender, "studies", *files(nifti(), nifti(1))).json()["id"])

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(send, range(4)))) == 1
    assert len(rows(services, Study)) == len(announced(services)) == 1
    assert objects_in(services) == sorted(file.key for file in rows(services, StudyFile))


def test_sequences_are_named_for_the_files_in_their_order(services: Services, sender: Sender) -> None:
    form(sender, "studies", *files(nifti(), nifti(1), nifti(2)), modalities="T1CE,,flair")
    assert [file.declared_modality for file in rows(services, StudyFile)] == ["t1ce", None, "flair"]


def test_large_files_that_came_in_parts_and_small_ones_are_one_study(
    services: Services, sender: Sender
) -> None:
    sha256 = hashlib.sha256(nifti(1)).hexdigest()
    ids = [
        finished_upload(sender, nifti(1), modality="t1", sha256=sha256, patient_id="P-7"),
        finished_upload(sender, nifti(2), modality="t2"),
    ]
    answer = form(sender, "studies", *files(nifti(3)), uploads=ids, modalities="flair")
    assert answer.status_code == 202, answer.text
    [study] = rows(services, Study)
    assert (study.patient_id, study.digest) == ("P-7", None)
    by_modality = {file.declared_modality: file for file in rows(services, StudyFile)}
    assert set(by_modality) == {"t1", "t2", "flair"}
    assert by_modality["t1"].details == {"declared_sha256": sha256}
    assert by_modality["flair"].sha256 == hashlib.sha256(nifti(3)).hexdigest()
    assert {row.study_id for row in rows(services, Upload)} == {study.id}
    again = form(sender, "studies", uploads=ids)
    assert (again.status_code, again.json()["known"], again.json()["id"]) == (200, True, str(study.id))
    with_more = form(sender, "studies", *files(nifti(9)), uploads=ids)
    assert (with_more.status_code, str(study.id) in with_more.json()["detail"]) == (409, True)
    only_one = form(sender, "studies", uploads=[ids[0], finished_upload(sender, nifti(5))])
    assert (only_one.status_code, ids[0] in only_one.json()["detail"]) == (409, True)
    assert len(announced(services)) == 1


def test_declared_hashes_tell_a_known_study_too(services: Services, sender: Sender) -> None:
    first = form(sender, "studies", *files(nifti(1), nifti(2))).json()
    sha256 = hashlib.sha256(nifti(1)).hexdigest()
    ids = [finished_upload(sender, nifti(1), sha256=sha256)]
    again = form(sender, "studies", *files(nifti(2)), uploads=ids)
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    assert str(rows(services, Upload)[0].study_id) == first["id"]


def test_an_upload_must_be_ones_own_finished_unexpired_and_of_the_kind(
    services: Services, sender: Sender, stranger: Sender
) -> None:
    data = nifti()
    usable = finished_upload(sender, data, kind="ct")
    open_, expired = sender.start(10)["id"], finished_upload(sender, nifti(1))
    with services.database.engine.begin() as connection:
        late = text("update uploads set expires_at = now() where id = :id")
        connection.execute(late, {"id": UUID(expired)})
    refused = {
        "is open": form(sender, "studies", uploads=open_),
        "there no longer": form(sender, "studies", uploads=expired),
        "started as ct": form(sender, "studies", uploads=usable, kind="oct"),
    }
    for says, answer in refused.items():
        assert (answer.status_code, says in answer.json()["detail"]) == (409, True), answer.text
    assert form(stranger, "studies", uploads=usable).status_code == 404
    twice = form(sender, "studies", uploads=[usable, usable])
    assert (twice.status_code, "named twice" in twice.json()["detail"]) == (422, True)
    assert rows(services, Study) == []


def test_a_study_of_a_case_is_its_patients(services: Services, sender: Sender, stranger: Sender) -> None:
    case_id = str(make_case(services, "dr-sender"))
    other_patient = form(sender, "studies", *files(nifti()), case_id=case_id, patient_id="P-9")
    assert (other_patient.status_code, "another patient" in other_patient.json()["detail"]) == (422, True)
    answer = form(sender, "studies", *files(nifti()), caseId=case_id)
    assert (answer.json()["case_id"], answer.json()["patient_id"]) == (case_id, "C-17")
    assert form(stranger, "studies", *files(nifti(1)), case_id=case_id).status_code == 404


def test_a_tenants_quota_holds_for_forms_too(services: Services, sender: Sender) -> None:
    services.settings.quota_bytes = len(nifti()) + 5
    assert form(sender, "studies", *files(nifti())).status_code == 202
    refused = form(sender, "studies", *files(nifti(1)))
    assert (refused.status_code, refused.json()["used_bytes"]) == (413, len(nifti()))
    assert len(objects_in(services)) == len(rows(services, Study)) == 1


def test_many_forms_at_once_do_not_pass_the_quota_together(services: Services, sender: Sender) -> None:
    services.settings.quota_bytes = 2 * len(nifti()) + 20
    together = threading.Barrier(6)

    def send(seed: int) -> int:
        together.wait()
        status: int = form(sender, "studies", *files(nifti(seed))).status_code
        return status

    with ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(send, range(6))) == [202] * 2 + [413] * 4
    assert len(objects_in(services)) == 2, "what was stored in vain is removed"


def test_names_are_in_no_row_key_log_or_answer(
    services: Services, sender: Sender, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [
        form(
            sender,
            "studies",
            *files(nifti()),
            patient_name="Zacharias Quibbleworth",
            name="Quibbleworth, 2nd",
        ),
        form(sender, "studies", *files(b"Quibbleworth")),
        form(sender, "segmentation/upload", ("file", (NAME, nifti(1)))),
    ]
    tables = "studies", "study_files", "outbox", "audit_log"
    with services.database.tenant(tenant_of(services)) as session:
        stored = [str(session.execute(text(f"select * from {table}")).all()) for table in tables]
    said = " ".join([*(answer.text for answer in answers), *stored, *objects_in(services)])
    assert "QUIBBLEWORTH" not in (said + capsys.readouterr().out).upper()


# POST /segmentation/upload


def test_a_ct_comes_as_one_archive(services: Services, sender: Sender) -> None:
    answer = form(sender, "segmentation/upload", ("file", ("study.tar.gz", samples.tar("w:gz"))))
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert (body["kind"], body["status"], body["id"]) == ("ct", "receiving", body["study_id"])
    assert answer.headers["location"] == f"/api/studies/{body['id']}"
    [file] = rows(services, StudyFile)
    assert file.media_type == "application/gzip"
    assert form(sender, "segmentation/upload", ("file", ("v.nii.gz", nifti()))).status_code == 202


def test_what_is_no_ct_is_refused(sender: Sender) -> None:
    refused = form(sender, "segmentation/upload", ("file", ("scan.e2e", samples.e2e())))
    assert (refused.status_code, "an OCT scan, not a CT" in refused.json()["detail"]) == (415, True)
    assert form(sender, "segmentation/upload").status_code == 422


# POST /cases/{id}/upload


def image(sender: Sender, case_id: UUID, modality: str, data: bytes, **fields: Any) -> Any:
    return form(sender, f"cases/{case_id}/upload", ("file", (NAME, data)), modality=modality, **fields)


def test_a_cases_images_are_one_study_once_all_four_are_there(services: Services, sender: Sender) -> None:
    case_id = make_case(services, "dr-sender")
    answers = [image(sender, case_id, name.upper(), nifti(n)) for n, name in enumerate(FOUR)]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 202]
    first, *_, last = (answer.json() for answer in answers)
    assert (first["received"], first["awaited"]) == (["t1"], ["t1ce", "t2", "flair"])
    assert datetime.fromisoformat(first["closes_at"]).tzinfo is not None
    assert (last["awaited"], last["closes_at"], last["status"]) == ([], None, "receiving")
    assert {answer.json()["study_id"] for answer in answers} == {last["study_id"]}
    [study] = rows(services, Study)
    assert (study.case_id, study.kind, study.patient_id) == (case_id, "brain-mri", "C-17")
    assert [file.declared_modality for file in rows(services, StudyFile)] == list(FOUR)
    assert announced(services) == [last["study_id"]]


def test_the_sender_may_say_that_no_more_will_come(services: Services, sender: Sender) -> None:
    case_id = make_case(services, "dr-sender")
    answer = image(sender, case_id, "flair", nifti(), complete="true")
    assert (answer.status_code, answer.json()["awaited"]) == (202, ["t1", "t1ce", "t2"])
    assert announced(services) == [answer.json()["study_id"]]
    next_one = image(sender, case_id, "t1", nifti(1))
    assert next_one.status_code == 201
    assert next_one.json()["study_id"] != answer.json()["study_id"]


def test_without_that_it_closes_after_a_quiet_time(services: Services, sender: Sender) -> None:
    services.settings.settle_seconds = 0
    case_id = make_case(services, "dr-sender")
    answer = image(sender, case_id, "t2", nifti())
    assert (answer.status_code, announced(services)) == (201, [])
    assert close_settled(services) == 1
    assert announced(services) == [answer.json()["study_id"]]


def test_an_image_again_changes_nothing_and_another_takes_its_place(
    services: Services, sender: Sender
) -> None:
    case_id = make_case(services, "dr-sender")
    first = image(sender, case_id, "t1", nifti())
    again = image(sender, case_id, "t1", nifti())
    assert (again.status_code, again.json()["known"], again.json()["id"]) == (200, True, first.json()["id"])
    assert len(objects_in(services)) == 1
    better = image(sender, case_id, "t1", nifti(1))
    assert (better.status_code, better.json()["study_id"]) == (201, first.json()["study_id"])
    [file] = rows(services, StudyFile)
    assert (str(file.id), file.sha256) == (better.json()["id"], hashlib.sha256(nifti(1)).hexdigest())


def test_images_sent_at_once_are_one_study(services: Services, sender: Sender) -> None:
    case_id = make_case(services, "dr-sender")
    together = threading.Barrier(4)

    def send(number: int) -> int:
        together.wait()
        status: int = image(sender, case_id, FOUR[number], nifti(number)).status_code
        return status

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(send, range(4))) == [201, 201, 201, 202]
    [study] = rows(services, Study)
    assert (announced(services), len(rows(services, StudyFile))) == ([str(study.id)], 4)
    with services.database.tenant(tenant_of(services)) as session:
        actions = session.scalars(select(AuditEntry.action).where(AuditEntry.action.like("study.%"))).all()
    assert sorted(actions) == ["study.add"] * 4 + ["study.create"]


@pytest.mark.parametrize(
    ("modality", "data", "status", "says"),
    [
        ("dwi", nifti(), 422, "modality"),
        ("", nifti(), 422, "modality"),
        ("t1", b"no image at all", 415, "file 1: The file is a text file"),
        ("t1", samples.e2e(), 415, "an OCT scan, not a brain MRI"),
    ],
)
def test_what_is_no_image_of_a_case_is_refused(
    services: Services, sender: Sender, modality: str, data: bytes, status: int, says: str
) -> None:
    answer = image(sender, make_case(services, "dr-sender"), modality, data)
    assert (answer.status_code, says in answer.json()["detail"]) == (status, True), answer.text
    assert (rows(services, Study), objects_in(services)) == ([], [])


def test_one_file_at_a_time_and_only_to_ones_own_cases(
    services: Services, sender: Sender, stranger: Sender
) -> None:
    case_id = make_case(services, "dr-sender")
    both = [("file", ("a.nii", nifti())), ("image", ("b.nii", nifti(1)))]
    for sent in ([], both):
        answer = form(sender, f"cases/{case_id}/upload", *sent, modality="t1")
        assert (answer.status_code, "send one file, as 'file' or 'image'" in answer.text) == (422, True)
    assert image(stranger, case_id, "t1", nifti()).status_code == 404
    assert image(sender, uuid7(), "t1", nifti()).status_code == 404
    assert objects_in(services) == []


def test_a_quota_holds_for_images_too(services: Services, sender: Sender) -> None:
    services.settings.quota_bytes = len(nifti()) + 5
    case_id = make_case(services, "dr-sender")
    assert image(sender, case_id, "t1", nifti()).status_code == 201
    assert image(sender, case_id, "t2", nifti(1)).status_code == 413
    assert len(objects_in(services)) == 1


# POST /slides/upload/start and /finish


def test_a_slide_goes_to_the_urls_of_all_its_parts(services: Services, sender: Sender) -> None:
    data = content(17 * MIB)
    answer = sender.post("slides/upload/start", {"filename": "QUIBBLEWORTH.SVS", "size": len(data)})
    assert answer.status_code == 201, answer.text
    started = answer.json()
    assert (started["slide_id"], started["part_size"], started["part_count"]) == (None, 16 * MIB, 2)
    parts = []
    for part in started["urls"]:
        offset = (part["part_number"] - 1) * started["part_size"]
        put = sender.client.put(part["url"], content=data[offset : offset + started["part_size"]])
        parts.append({"PartNumber": part["part_number"], "ETag": put.headers["etag"]})
    finish = {"uploadId": started["upload_id"], "parts": parts}
    finished = sender.post("slides/upload/finish", finish)
    assert finished.status_code == 202, finished.text
    [study] = rows(services, Study)
    assert finished.json() == {"slide_id": str(study.id), "study_id": str(study.id), "status": "receiving"}
    assert finished.headers["location"] == f"/api/slides/{study.id}"
    assert study.kind == "slide"
    again = sender.post("slides/upload/finish", finish)
    assert (again.status_code, again.json()) == (200, finished.json())
    assert announced(services) == [str(study.id)]


@pytest.mark.parametrize(
    "name", ["a.svs", "a.NDPI", "a.ome.tiff", "a.czi", "a.svslide", "mirax.zip", "x.tar.gz"]
)
def test_slides_of_every_vendor_may_be_sent(sender: Sender, name: str) -> None:
    assert sender.post("slides/upload/start", {"fileName": name, "fileSize": 2 << 20}).status_code == 201


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"filename": "quibbleworth.xlsx"}, 422, "a slide's ends with .svs"),
        ({"filename": "a.mrxs"}, 422, "several files"),
        ({"size": (1 << 20) - 1}, 422, "1,048,576 or more"),
        ({"size": (50 << 30) + 1}, 413, "53,687,091,200"),
        ({"size": 0}, 422, "size"),
        ({"case_id": str(uuid7())}, 404, "no case"),
    ],
)
def test_what_is_no_slide_is_refused_before_it_is_sent(
    services: Services, sender: Sender, fields: dict[str, Any], status: int, says: str
) -> None:
    answer = sender.post("slides/upload/start", {"filename": "a.svs", "size": 2 << 20, **fields})
    assert (answer.status_code, says in answer.json()["detail"]) == (status, True), answer.text
    assert "quibbleworth" not in answer.text
    assert rows(services, Upload) == []


def test_the_largest_slide_has_a_thousand_urls_at_most(sender: Sender) -> None:
    started = sender.post("slides/upload/start", {"filename": "a.svs", "size": 50 << 30}).json()
    assert (len(started["urls"]), started["part_size"]) == (800, 64 * MIB)


def test_only_ones_own_slides_are_finished(sender: Sender, stranger: Sender) -> None:
    mine = sender.post("slides/upload/start", {"filename": "a.svs", "size": 2 << 20}).json()["upload_id"]
    no_slide = sender.start(10)["id"]
    for who, upload_id in ((stranger, mine), (sender, no_slide), (sender, str(uuid7()))):
        assert who.post("slides/upload/finish", {"upload_id": upload_id}).status_code == 404
    missing = sender.post("slides/upload/finish", {"upload_id": mine})
    assert (missing.status_code, missing.json()["missing"]) == (409, [1])


# POST /oct/predict


def predict(sender: Sender, data: bytes | None = None, **query: Any) -> Any:
    sent = ("image", ("QUIBBLEWORTH.png", samples.picture("PNG") if data is None else data))
    return sender.client.post("/api/oct/predict", files=[sent], params=query, headers=sender.headers)


class Analysis:
    """What ingest and a pipeline would do to the one study there is, while its sender waits."""

    def __init__(self, services: Services) -> None:
        self.services = services

    def study(self) -> Study:
        deadline = time.monotonic() + 10
        while not (found := rows(self.services, Study)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        study: Study = found[0]
        return study

    def set_study(self, **values: Any) -> None:
        with self.services.database.tenant(tenant_of(self.services)) as session:
            session.execute(update(Study).values(**values))

    def end_task(self, state: TaskState, message: str | None = None, *, findings: bool = True) -> UUID:
        study, task_id = self.study(), uuid7()
        tenant: dict[str, Any] = {"tenant_id": study.tenant_id}
        model = {"model": "oct-classes", "model_version": "1.2.0", "display": "x"}
        with self.services.database.tenant(study.tenant_id) as session:
            session.add(
                InferenceTask(
                    id=task_id,
                    study_id=study.id,
                    user_id=study.owner_id,
                    pipeline="oct",
                    state=state,
                    message=message,
                    **tenant,
                )
            )
            session.flush()
            of_task = {"task_id": task_id, "study_id": study.id, **model, **tenant}
            chances = {"drusen": 0.75, "normal": 0.25} if findings else {}
            for position, (name, chance) in enumerate(chances.items(), 1):
                session.add(
                    Finding(position=position, name=f"probability-{name}", probability=chance, **of_task)
                )
            if findings:
                session.add(Finding(position=0, name="class", value="drusen", probability=0.75, **of_task))
                report = {"owner_id": study.owner_id, "title": "OCT", "content": {}}
                session.add(Report(study_id=study.id, task_id=task_id, **report, **tenant))
        return task_id


@pytest.fixture
def analysis(services: Services) -> Analysis:
    return Analysis(services)


def while_waiting(sender: Sender, act: Any, **query: Any) -> tuple[Any, float]:
    """What the sender gets, and after how many seconds, while `act` happens."""
    with ThreadPoolExecutor(1) as thread:
        begun = time.monotonic()
        waiting = thread.submit(predict, sender, **query)
        act()
        answer = waiting.result(timeout=60)
        return answer, time.monotonic() - begun


def test_a_prediction_is_answered_as_soon_as_it_is_there(
    services: Services, sender: Sender, analysis: Analysis
) -> None:
    def act() -> None:
        analysis.study()
        analysis.set_study(status=StudyStatus.PROCESSING)
        analysis.end_task(TaskState.SUCCESS)

    answer, seconds = while_waiting(sender, act)
    assert (answer.status_code, seconds < 20) == (200, True), answer.text
    [study], [report], [task] = (rows(services, kind) for kind in (Study, Report, InferenceTask))
    assert answer.json() == {
        "study_id": str(study.id),
        "task_id": str(task.id),
        "report_id": str(report.id),
        "prediction": "drusen",
        "probabilities": {"drusen": 0.75, "normal": 0.25},
        "confidence": 0.75,
        "model": "oct-classes",
        "model_version": "1.2.0",
    }
    assert (study.kind, answer.headers["location"]) == ("oct", f"/api/studies/{study.id}")
    again = predict(sender)
    assert (again.status_code, again.json()) == (200, answer.json())
    assert len(rows(services, Study)) == 1


@pytest.mark.parametrize("reason", ["file 1: it is too small", None])
def test_a_rejected_image_is_answered_with_the_reason(
    sender: Sender, analysis: Analysis, reason: str | None
) -> None:
    def act() -> None:
        analysis.study()
        analysis.set_study(status=StudyStatus.REJECTED, message=reason)

    answer, _ = while_waiting(sender, act)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, "no-prediction")
    assert answer.json()["detail"] == (reason or "the image cannot be used")
    assert answer.json()["study_id"] == str(analysis.study().id)


@pytest.mark.parametrize(
    ("state", "message", "says"),
    [
        (TaskState.FAILURE, "no connection", "no connection"),
        (TaskState.CANCELLED, None, "the analysis ended as cancelled"),
    ],
)
def test_an_analysis_that_failed_is_answered_with_the_reason(
    sender: Sender, analysis: Analysis, state: TaskState, message: str | None, says: str
) -> None:
    answer, _ = while_waiting(sender, lambda: analysis.end_task(state, message))
    assert (answer.status_code, answer.json()["detail"]) == (422, says)


def test_who_does_not_wait_long_enough_is_told_where_it_stands(
    services: Services, sender: Sender, analysis: Analysis
) -> None:
    answer = predict(sender, wait=0)
    study = analysis.study()
    assert answer.status_code == 202
    expected = {"study_id": str(study.id), "task_id": None, "status": "receiving", "step": "received"}
    assert (answer.json(), answer.headers["location"]) == (expected, f"/api/studies/{study.id}")
    task_id = analysis.end_task(TaskState.STARTED, findings=False)
    begun = time.monotonic()
    later = predict(sender, wait=1.2)
    assert (later.status_code, later.json()["task_id"]) == (202, str(task_id))
    assert 1.2 <= time.monotonic() - begun < 10
    assert announced(services) == [str(study.id)]


def test_nobody_waits_for_what_nothing_analyses(
    services: Services, sender: Sender, analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oct_service, "NO_TASK_SECONDS", 0.3)
    predict(sender, wait=0)
    analysis.set_study(status=StudyStatus.INGESTED, step="ingested")
    begun = time.monotonic()
    answer = predict(sender)
    assert (answer.status_code, answer.json()["status"], answer.json()["task_id"]) == (202, "ingested", None)
    assert time.monotonic() - begun < 20


def test_nobody_waits_for_what_a_person_must_look_at_first(sender: Sender, analysis: Analysis) -> None:
    predict(sender, wait=0)
    analysis.set_study(step="held")
    begun = time.monotonic()
    answer = predict(sender)
    assert (answer.status_code, answer.json()["step"]) == (202, "held")
    assert time.monotonic() - begun < 20


def test_who_waits_holds_no_database_connection(
    services: Services, sender: Sender, analysis: Analysis
) -> None:
    held = []
    pool = services.database.engine.pool
    assert isinstance(pool, QueuePool)

    def act() -> None:
        analysis.study()
        for _ in range(40):
            held.append(pool.checkedout())
            time.sleep(0.02)

    answer, _ = while_waiting(sender, act, wait=2)
    assert answer.status_code == 202
    assert held.count(0) > len(held) / 2, held


def test_who_goes_away_is_not_waited_for(services: Services, sender: Sender, analysis: Analysis) -> None:
    boundary = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    body = boundary + samples.picture("PNG") + b"\r\n--x--\r\n"
    headers = {**sender.headers, "Content-Type": "multipart/form-data; boundary=x"}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/api/oct/predict",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 5000),
        "server": ("testserver", 80),
    }
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": body, "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message: Any) -> None:
        pass

    begun = time.monotonic()
    anyio.run(partial(sender.client.app, scope, receive, send))
    assert time.monotonic() - begun < 20, "it would have waited for 60 s"
    assert announced(services) == [str(analysis.study().id)], "its image is analysed all the same"


@pytest.mark.parametrize(
    ("data", "query", "status", "says"),
    [
        (b"no image", {}, 415, "file 1: The file is a text file"),
        (samples.dicom(), {}, 415, "a CT, not an OCT scan"),
        (None, {"wait": 61}, 422, "wait"),
        (None, {"wait": -1}, 422, "wait"),
    ],
)
def test_what_cannot_be_predicted_is_refused(
    services: Services, sender: Sender, data: bytes | None, query: dict[str, Any], status: int, says: str
) -> None:
    answer = predict(sender, data, **query)
    assert (answer.status_code, says in answer.json()["detail"]) == (status, True), answer.text
    assert (rows(services, Study), "QUIBBLEWORTH" in answer.text) == ([], False)
