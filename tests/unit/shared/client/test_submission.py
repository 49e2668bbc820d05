"""Which requests a sending makes, and how it takes what is answered."""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from shared.client import submission
from shared.client.api import Api
from shared.client.choosing import sources_of
from shared.client.errors import CallFailed, FileChanged
from shared.client.results import Study
from shared.client.retries import Patience
from shared.client.sending import Progress, Sending, StudyFields
from shared.client.submission import Submission

T = TypeVar("T")
PART_BYTES = 64
STORE = "http://store.example"


@dataclass
class Server:
    """Answers as the routes do, or as `trouble` says."""

    uploads: dict[str, dict[str, Any]] = field(default_factory=dict)
    stored: dict[tuple[str, int], bytes] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    trouble: dict[str, list[httpx.Response | Exception]] = field(default_factory=dict)
    """By what a request matches: what is answered instead, one after another."""
    before: Callable[[str], object] = lambda what: None

    async def answer(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        what = f"{request.method} {request.url.path.removeprefix('/api/')}"
        self.seen.append(what)
        self.requests.append(request)
        self.before(what)
        for pattern, answers in self.trouble.items():
            if answers and re.fullmatch(pattern, what):
                answer = answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer
        if request.url.host == "store.example":
            _, upload_id, number = request.url.path.split("/")
            self.stored[upload_id, int(number)] = body
            return httpx.Response(200, headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
        return self.route(what, request, body)

    def route(self, what: str, request: httpx.Request, body: bytes) -> httpx.Response:
        match what.split("/"):
            case ["POST uploads"]:
                made_id = f"up-{len(self.uploads) + 1}"
                made = {"id": made_id, "status": "open", "part_bytes": PART_BYTES, "study_id": None}
                self.uploads[made_id] = made | json.loads(body)
                return httpx.Response(201, json=self.state(made_id))
            case ["GET uploads", id] if id in self.uploads:
                return httpx.Response(200, json=self.state(id))
            case ["POST uploads", id, "parts"]:
                numbers = json.loads(body)["numbers"]
                parts = [{"number": n, "url": f"{STORE}/{id}/{n}?signature=s"} for n in numbers]
                return httpx.Response(200, json={"parts": parts})
            case ["POST uploads", id, "finish"]:
                finish = json.loads(body)
                study = "study-of-" + id if finish["study"] else self.uploads[id]["study_id"]
                self.uploads[id] |= finish | {"status": "finished", "study_id": study}
                return httpx.Response(202, json=self.state(id))
            case ["POST studies"]:
                return httpx.Response(202, json={"id": "study", "status": "receiving", "kind": None})
        return httpx.Response(404, json={"detail": "no such thing"})

    def state(self, id: str) -> dict[str, Any]:
        sent = {number: data for (upload, number), data in self.stored.items() if upload == id}
        received = [{"number": n, "etag": "e", "size": len(data)} for n, data in sorted(sent.items())]
        return self.uploads[id] | {"received": received}

    def content(self, id: str) -> bytes:
        return b"".join(data for (upload, _), data in sorted(self.stored.items()) if upload == id)

    def count(self, pattern: str) -> int:
        return sum(bool(re.fullmatch(pattern, what)) for what in self.seen)

    def form(self) -> str:
        (request,) = (one for one in self.requests if one.url.path == "/api/studies")
        assert request.headers["Content-Type"].startswith("multipart/form-data")
        return request.content.decode(errors="replace")


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "ONE_REQUEST_BYTES", 300)
    monkeypatch.setattr(submission, "IN_PARTS_BYTES", 100)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def sending(tmp_path: Path) -> Sending:
    return Sending(state_dir=tmp_path / "state")


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "scan.bin"
    path.write_bytes(bytes(range(250)) * 4)
    return path


def submit(server: Server, paths: list[Path], sending: Sending, patience: float = 60, **fields: Any) -> Study:
    async def run() -> Study:
        transport = httpx.MockTransport(server.answer)
        api = Api("http://server", "hsk_key", None, Patience(patience, 0.001, 0.01), transport)
        sources = sources_of(paths, sending)
        total = sum(source.size for source in sources)
        try:
            return await Submission(api, sending, total).study(sources, StudyFields(**fields))
        finally:
            await api.close()

    return asyncio.run(run())


def test_small_files_go_in_one_request(server: Server, tmp_path: Path, sending: Sending) -> None:
    paths = [tmp_path / "a.nii", tmp_path / "b.nii"]
    for path in paths:
        path.write_bytes(path.name.encode())
    study = submit(server, paths, sending, modalities=["t1", "FLAIR"], kind="brain-mri", duplicate=True)
    assert (study.id, server.seen) == ("study", ["POST studies"])
    form = server.form()
    for name, value in {"kind": "brain-mri", "modalities": "t1,flair", "duplicate": "true"}.items():
        assert f'name="{name}"\r\n\r\n{value}\r\n' in form
    assert form.index('filename="a.nii"') < form.index('filename="b.nii"')
    assert "patient_id" not in form


def test_a_large_file_goes_in_parts_and_finishing_makes_the_study(
    server: Server, big: Path, sending: Sending
) -> None:
    study = submit(server, [big], sending, kind="slide", patient_id="P1", scan_date=None)
    content, upload = big.read_bytes(), server.uploads["up-1"]
    assert (study.id, study.kind) == ("study-of-up-1", "slide")
    assert server.content("up-1") == content
    assert upload["sha256"] == hashlib.sha256(content).hexdigest()
    said = {name: upload[name] for name in ("filename", "size", "kind", "patient_id", "study")}
    assert said == {
        "filename": "scan.bin",
        "size": 1000,
        "kind": "slide",
        "patient_id": "P1",
        "study": True,
    }
    assert "scan_date" not in upload
    assert server.count("PUT .*") == 16
    assert list((sending.state_dir or big).iterdir()) == []


def test_of_several_files_the_large_ones_are_uploaded_first(
    server: Server, big: Path, tmp_path: Path, sending: Sending
) -> None:
    small = tmp_path / "small.bin"
    small.write_bytes(b"small")
    study = submit(server, [big, small], sending, modalities=["t1", "t2"], patient_id="P1")
    assert study.id == "study"
    assert (server.uploads["up-1"]["study"], server.uploads["up-1"]["modality"]) == (False, "t1")
    form = server.form()
    assert 'name="uploads"\r\n\r\nup-1\r\n' in form
    assert 'name="modalities"\r\n\r\nt2\r\n' in form
    assert 'name="patient_id"\r\n\r\nP1\r\n' in form
    assert 'filename="small.bin"' in form
    assert "scan.bin" not in form


def test_a_named_study_is_made_by_the_route_that_takes_names(
    server: Server, big: Path, sending: Sending
) -> None:
    submit(server, [big], sending, name="Biopsy 3")
    assert 'name="name"\r\n\r\nBiopsy 3\r\n' in server.form()
    assert server.uploads["up-1"]["study"] is False


def test_the_store_is_shown_no_credential_of_ours(server: Server, big: Path, sending: Sending) -> None:
    submit(server, [big], sending)
    signed = {one.url.host: one.headers.get("Authorization") for one in server.requests}
    assert signed == {"server": "Bearer hsk_key", "store.example": None}
    lengths = [one.headers["Content-Length"] for one in server.requests if one.url.host != "server"]
    assert sorted(lengths) == ["40"] + ["64"] * 15


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(503, headers={"Retry-After": "0"}),
        httpx.Response(500),
        httpx.Response(409, json={"detail": "part 3 is being received in another request"}),
        httpx.Response(400, text="<Error><Code>RequestTimeout</Code></Error>"),
        httpx.Response(403),
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
    ],
    ids=["away", "mistake", "busy", "timeout", "expired", "refused", "reset"],
)
def test_a_part_that_fails_is_sent_again_and_counted_once(
    server: Server, big: Path, sending: Sending, trouble: httpx.Response | Exception
) -> None:
    told: list[Progress] = []
    server.trouble = {"PUT .*/3": [trouble, trouble]}
    submit(server, [big], replace(sending, on_progress=told.append))
    assert server.content("up-1") == big.read_bytes()
    assert server.count("PUT .*/3") == 3
    assert server.count("PUT .*") == 18
    assert told[-1] == Progress(1000, 1000, 0)
    assert max(one.done for one in told) == 1000


def test_a_part_that_arrived_but_whose_answer_was_lost_is_not_sent_again(
    server: Server, big: Path, sending: Sending
) -> None:
    content = big.read_bytes()

    def arrive(what: str) -> None:
        if what.startswith("PUT") and what.endswith("/3"):
            server.stored["up-1", 3] = content[128:192]

    told: list[Progress] = []
    server.before, server.trouble = arrive, {"PUT .*/3": [httpx.ReadError("reset")]}
    submit(server, [big], replace(sending, on_progress=told.append))
    assert server.count("PUT .*/3") == 1
    assert server.content("up-1") == content
    assert told[-1] == Progress(1000, 1000, 0)


def test_an_expired_url_is_signed_anew(server: Server, big: Path, sending: Sending) -> None:
    server.trouble = {"PUT .*/3": [httpx.Response(403)]}
    before = submit(Server(), [big], sending)
    submit(server, [big], sending)
    assert before.id == "study-of-up-1"
    calm = Server()
    submit(calm, [big], sending)
    assert server.count("POST .*/parts") == calm.count("POST .*/parts") + 1


def test_what_the_store_refuses_for_good_is_told_with_its_reason(
    server: Server, big: Path, sending: Sending
) -> None:
    gone = httpx.Response(404, text="<Error><Code>NoSuchUpload</Code><Key>secret</Key></Error>")
    server.trouble = {"PUT .*/3": [gone]}
    with pytest.raises(CallFailed, match=r"refused part 3 with 404 \(NoSuchUpload\)$"):
        submit(server, [big], sending)


def test_a_url_that_is_refused_again_and_again_is_an_error(
    server: Server, big: Path, sending: Sending
) -> None:
    server.trouble = {"PUT .*/3": [httpx.Response(403) for _ in range(9)]}
    with pytest.raises(CallFailed, match="refused part 3 with 403"):
        submit(server, [big], sending)
    assert server.count("PUT .*/3") == 4


def test_an_answer_without_an_etag_is_not_the_stores(server: Server, big: Path, sending: Sending) -> None:
    server.trouble = {"PUT .*/3": [httpx.Response(200)]}
    with pytest.raises(CallFailed, match="without naming its ETag"):
        submit(server, [big], sending)


def cut_off(server: Server, big: Path, sending: Sending) -> None:
    """Lose the server after eight parts."""
    server.trouble = {r"PUT .*/(9|\d\d)": [httpx.ReadError("reset") for _ in range(99)]}
    with pytest.raises(CallFailed, match=r"no answer from http://store\.example") as caught:
        submit(server, [big], sending, patience=0)
    assert caught.value.passing
    server.trouble.clear()
    server.seen.clear()


def test_a_resumed_upload_sends_what_is_missing_only(server: Server, big: Path, sending: Sending) -> None:
    cut_off(server, big, sending)
    had, told = set(server.stored), list[Progress]()
    study = submit(server, [big], replace(sending, resume=True, on_progress=told.append))
    assert study.id == "study-of-up-1"
    assert server.content("up-1") == big.read_bytes()
    assert server.count("PUT .*") == 16 - len(had)
    assert not {f"PUT /{upload_id}/{number}" for upload_id, number in had} & set(server.seen)
    assert server.uploads["up-1"]["sha256"] == hashlib.sha256(big.read_bytes()).hexdigest()
    before = 64 * len(had)
    assert (told[0], told[-1]) == (Progress(before, 1000, before), Progress(1000, 1000, before))


def test_without_resume_an_upload_starts_anew_and_the_former_is_told_of(
    server: Server, big: Path, sending: Sending
) -> None:
    cut_off(server, big, sending)
    sent = sum(map(len, server.stored.values()))
    notes: list[str] = []
    assert submit(server, [big], replace(sending, on_note=notes.append)).id == "study-of-up-2"
    assert server.count("PUT .*") == 16
    (note,) = notes
    assert note.startswith(f"{sent} of 1,000 bytes of {big} were sent before; it is sent anew")
    assert "--resume would have gone on with them" in note
    assert note.endswith("DELETE http://server/api/uploads/up-1 gives them up")


@pytest.mark.parametrize("end", ["aborted", "expired", "finished", "forgotten", "changed"])
def test_a_former_upload_with_which_nothing_can_be_done_is_not_told_of(
    server: Server, big: Path, sending: Sending, end: str
) -> None:
    cut_off(server, big, sending)
    if end == "forgotten":
        server.trouble = {"GET uploads/.*": [httpx.Response(404)]}
    elif end == "changed":
        big.write_bytes(big.read_bytes()[::-1])
    else:
        server.uploads["up-1"]["status"] = end
    notes: list[str] = []
    assert submit(server, [big], replace(sending, on_note=notes.append)).id == "study-of-up-2"
    assert notes == []


@pytest.mark.parametrize("status", ["expired", "aborted", None])
def test_an_upload_that_the_server_gave_up_starts_anew_and_says_so(
    server: Server, big: Path, sending: Sending, status: str | None
) -> None:
    cut_off(server, big, sending)
    notes: list[str] = []
    if status is None:
        server.trouble = {"GET uploads/.*": [httpx.Response(404)]}
    else:
        server.uploads["up-1"]["status"] = status
    study = submit(server, [big], replace(sending, resume=True, on_note=notes.append))
    assert study.id == "study-of-up-2"
    assert "given up" in notes[0]


def test_a_file_that_changed_since_starts_anew_and_says_so(
    server: Server, big: Path, sending: Sending
) -> None:
    cut_off(server, big, sending)
    notes: list[str] = []
    big.write_bytes(big.read_bytes()[::-1])
    study = submit(server, [big], replace(sending, resume=True, on_note=notes.append))
    assert study.id == "study-of-up-2"
    assert server.content("up-2") == big.read_bytes()
    assert "changed since" in notes[0]


def test_a_file_that_changes_while_it_is_sent_is_an_error(
    server: Server, big: Path, sending: Sending
) -> None:
    def change(what: str) -> None:
        if what.startswith("PUT") and what.endswith("/5"):
            big.write_bytes(bytes(1000))

    server.before = change
    with pytest.raises(FileChanged, match="changed while it was sent"):
        submit(server, [big], sending)
    assert server.count("POST .*/finish") == 0


def test_a_run_that_died_after_its_last_request_finds_its_study(
    server: Server, big: Path, tmp_path: Path, sending: Sending
) -> None:
    server.trouble = {"POST .*/finish": [httpx.ReadError("reset")]}
    with pytest.raises(CallFailed):
        submit(server, [big], sending, patience=0)
    server.uploads["up-1"] |= {"status": "finished", "study_id": "study-of-up-1"}
    server.seen.clear()
    assert submit(server, [big], replace(sending, resume=True)).id == "study-of-up-1"
    assert server.count("PUT .*") == 0
    server.trouble = {"POST studies": [httpx.ReadError("reset")]}
    with pytest.raises(CallFailed):
        submit(server, [big], sending, patience=0, name="Biopsy 3")
    server.uploads["up-2"]["study_id"] = "study"
    server.seen.clear()
    assert submit(server, [big], replace(sending, resume=True), name="Biopsy 3").id == "study"
    assert server.seen == ["GET uploads/up-2", "POST uploads/up-2/finish"]


def test_an_upload_that_cannot_be_remembered_is_made_all_the_same(
    server: Server, big: Path, sending: Sending
) -> None:
    notes: list[str] = []
    occupied = replace(sending, state_dir=big / "state", on_note=notes.append)
    assert submit(server, [big], occupied).id == "study-of-up-1"
    assert all("cannot be resumed later" in note for note in notes)
    assert notes


@pytest.mark.parametrize("first", [False, True])
def test_the_hash_is_told_with_the_last_part_or_with_the_first(
    server: Server, big: Path, sending: Sending, first: bool
) -> None:
    at_start: list[bool] = []
    server.before = lambda what: (
        what == "POST uploads/up-1/parts" and at_start.append("sha256" in server.uploads["up-1"])
    )
    submit(server, [big], replace(sending, hash_first=first))
    assert set(at_start) == {first}
    assert server.uploads["up-1"]["sha256"] == hashlib.sha256(big.read_bytes()).hexdigest()


def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    server: Server, big: Path, sending: Sending
) -> None:
    with pytest.raises(CallFailed, match="one is needed for each file, so 1, not 2"):
        submit(server, [big], sending, modalities=["t1", "t2"])
    with pytest.raises(CallFailed, match="1 to 64 parts"):
        submit(server, [big], replace(sending, parallel=0))
    assert server.seen == []


@pytest.mark.parametrize("one_request_bytes", [300, 10_000], ids=["in parts", "in one request"])
def test_what_somebody_still_writes_to_is_not_sent(
    server: Server,
    tmp_path: Path,
    sending: Sending,
    monkeypatch: pytest.MonkeyPatch,
    one_request_bytes: int,
) -> None:
    monkeypatch.setattr(submission, "ONE_REQUEST_BYTES", one_request_bytes)
    image, hidden = tmp_path / "series" / "IM1", tmp_path / "series" / ".hidden"
    image.parent.mkdir()
    image.write_bytes(b"the first half")
    hidden.write_bytes(b"of which a note tells once all sizes were taken")

    def write_on(_note: str) -> None:
        image.write_bytes(b"the first half and the second" * 100)

    with pytest.raises(FileChanged, match="changed while it was sent"):
        submit(server, [image.parent], replace(sending, on_note=write_on))
    assert server.seen == []
