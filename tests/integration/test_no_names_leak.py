"""A patient's name is where it is asked for and nowhere else; a password or token is nowhere."""

import base64
import gzip
import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pypdf import PdfReader
from sqlalchemy import Engine, create_engine, text

from shared.db.embedded import EmbeddedPostgres
from shared.ids import uuid7
from tests.conftest import open_folder
from tests.integration.installation import ADMIN, Installation

NAME = "Zacharias Quibbleworth"
WORDS = (NAME, *NAME.split())
MODALITIES = ("t1", "t1ce", "t2", "flair")


def written(word: str) -> set[bytes]:
    """A word as it may be written somewhere."""
    forms: set[bytes] = set()
    for form in {word, word.lower(), word.upper()}:
        raw = form.encode()
        forms |= {raw, form.encode("utf-16-le"), form.encode("utf-16-be"), quote(form).encode()}
        forms |= {raw.hex().encode(), raw.hex().upper().encode(), form.replace(" ", "+").encode()}
        forms |= {*_base64(raw), *_base64(form.encode("utf-16-le"))}
    return forms


def _base64(raw: bytes) -> Iterator[bytes]:
    """What stays of the word wherever it begins in what was encoded (RFC 4648 §4 and §5)."""
    for before in range(3):
        coded = base64.b64encode(bytes(before) + raw)
        inner = coded[-(-before * 8 // 6) : len(coded) - 4 if coded.endswith(b"=") else None]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))


def holds(hay: bytes, words: Iterable[str]) -> list[str]:
    """Which of the words are in it, in whatever case or coding."""
    low = hay.lower()
    return [
        word for word in words if word.lower().encode() in low or any(form in hay for form in written(word))
    ]


@pytest.mark.parametrize(
    "hay",
    [
        f"name={NAME}".encode(),
        NAME.upper().encode(),
        b"zAchArias",
        "Quibbleworth".encode("utf-16"),
        quote(f"Dr {NAME}").encode(),
        base64.b64encode(b"a" + NAME.encode()),
        base64.b64encode(b"ab" + NAME.encode() + b"cde"),
        base64.urlsafe_b64encode(f"?{NAME}".encode()),
        NAME.encode().hex().encode(),
        json.dumps({"files": ["QUIBBLEWORTH_t1.nii.gz"]}).encode(),
    ],
)
def test_the_search_finds_a_name_however_it_is_written(hay: bytes) -> None:
    assert holds(b"something before " + hay + b" and after", WORDS)
    assert not holds(b"something before and after", WORDS)


@dataclass
class Traces:
    """What an installation left behind, and what must not be in it."""

    places: dict[str, bytes] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)

    def names(self) -> dict[str, list[str]]:
        """Place → which parts of the name it holds."""
        return {place: found for place, hay in self.places.items() if (found := holds(hay, WORDS))}

    def told(self) -> set[tuple[str, str]]:
        """Each secret that is in some place."""
        return {
            (name, place)
            for name, secret in self.secrets.items()
            for place, hay in self.places.items()
            if holds(hay, [secret])
        }


@pytest.fixture
def installation(database_url: str) -> Iterator[Installation]:
    environment = {
        "HOUNSFIELD_DATABASE_URL": database_url,
        "HOUNSFIELD_LOG_LEVEL": "DEBUG",
        "HOUNSFIELD_BCRYPT_COST": "4",
    }
    with open_folder() as folder, Installation(folder / "data", **environment) as installation:
        installation.start()
        yield installation


@pytest.fixture
def named_files(brain_files: list[Path], tmp_path: Path) -> list[Path]:
    """The four sequences, under names that tell whose they are."""
    made = []
    for path, modality in zip(brain_files, MODALITIES, strict=True):
        made.append(tmp_path / f"Quibbleworth_ZACHARIAS_{modality}.nii.gz")
        made[-1].write_bytes(path.read_bytes())
    return made


def test_a_patients_name_and_what_lets_people_in_leave_no_trace(
    installation: Installation, named_files: list[Path], database_url: str, postgres: EmbeddedPostgres
) -> None:
    traces = Traces()
    _use_accounts(installation, traces)
    study = _use_studies(installation, named_files)
    assert study["status"] == "completed"
    assert study["patient_name"] == NAME, "who may see the study is told whose it is"
    assert all(holds(file["filename"].encode(), WORDS) for file in study["files"])

    metrics = installation.http.get("metrics")
    assert b"hounsfield_http_request_seconds" in metrics.content
    _collect(installation, traces, database_url, postgres, study)
    traces.places["metrics"] = metrics.content
    assert {
        "public.inbox.topic",
        "public.outbox.envelope",
        "public.audit_log.details",
        "public.studies.patient_name_sealed",
        "public.study_files.filename_sealed",
        "public.reports.content",
        "objects called report.json",
        "objects called report.pdf",
        "logs of hounsfield",
    } <= traces.places.keys()
    assert traces.places["public.study_files.filename_sealed"].count(b"\n") >= len(named_files)
    assert len(traces.secrets) >= 8

    assert traces.names() == {}
    assert traces.told() == set()


def _use_accounts(installation: Installation, traces: Traces) -> None:
    """Log in rightly and wrongly, refresh, make a key and use it; remember all that is secret."""
    http, secrets = installation.http, traces.secrets
    secrets |= {"password": ADMIN[1], "wrong password": f"wrong-{uuid7().hex}"}
    wrong = http.post("auth/login", json={"login": ADMIN[0], "password": secrets["wrong password"]})
    assert wrong.status_code == 401
    session = _json(http.post("auth/login", json={"login": ADMIN[0], "password": ADMIN[1]}), 200)
    secrets |= {"access token": session["access_token"], "refresh token": session["refresh_token"]}
    renewed = _json(http.post("auth/refresh", json={"refresh_token": session["refresh_token"]}), 200)
    secrets |= {
        "second access token": renewed["access_token"],
        "second refresh token": renewed["refresh_token"],
    }
    secrets["csrf token"] = renewed["csrf_token"]
    http.cookies.clear()
    installation.login()
    key = _json(http.post("auth/api-keys", json={"name": "a scanner"}), 201)["key"]
    secrets["API key"] = key
    assert (
        httpx.get(f"{http.base_url}studies", headers={"X-API-Key": key}, trust_env=False).status_code == 200
    )
    _reset_password(installation, traces)


def _reset_password(installation: Installation, traces: Traces) -> None:
    """Somebody forgot theirs; the mail holds the token."""
    http, email = installation.http, "forgetful@hospital.example"
    traces.secrets |= {"first password": f"first-{uuid7().hex}", "new password": f"second-{uuid7().hex}"}
    account = {"email": email, "password": traces.secrets["first password"]}
    _json(http.post("auth/register", json=account), 201)
    assert http.post("auth/reset-password", json={"email": email}).status_code == 202
    [token] = set(re.findall(r"hpr_[\w-]{40,}", _mail(installation)))
    traces.secrets["reset token"] = token
    body = {"token": token, "password": traces.secrets["new password"]}
    assert http.post("auth/reset-password/confirm", json=body).status_code == 204


def _mail(installation: Installation) -> str:
    """What was written to people; it is sent after the answer."""
    deadline = time.monotonic() + 20
    while not (mails := list((installation.data_dir / "mail").rglob("*.eml"))):
        assert time.monotonic() < deadline, "no mail came"
        time.sleep(0.05)
    return "".join(mail.read_bytes().replace(b"=\n", b"").replace(b"=3D", b"=").decode() for mail in mails)


def _use_studies(installation: Installation, files: list[Path]) -> dict[str, Any]:
    """Send a study by name, and much else that goes wrong by name."""
    http = installation.http
    broken = [("files", (f"{NAME} flair.nii.gz", b"\x1f\x8bnothing of the kind"))]
    answers = [
        http.post("process-mri", files=broken, data={"patientName": NAME}),
        http.post("process-mri", files=[("files", (f"{NAME}.txt", b"text"))]),
        http.post(
            "process-mri", files=broken, data={"patient_id": NAME, "scan_date": NAME, "modalities": NAME}
        ),
        http.get("studies", params={"status": NAME, "kind": NAME}),
        http.get(f"studies/{NAME}"),
        http.get(f"{NAME}/{NAME}.nii.gz"),
        http.get("auth/me", headers={"Authorization": f"Bearer {NAME}"}),
        http.post("auth/login", json={"login": NAME, "password": NAME}),
    ]
    assert [answer.status_code < 500 for answer in answers] == [True] * len(answers)
    sent = installation.submit(files, patientName=NAME)
    study = installation.wait(sent["id"])
    report = study["results"]["report_id"]
    for path in (
        f"reports/{report}",
        f"reports/{report}/html",
        f"studies/{sent['id']}/artifacts/report-json",
    ):
        assert not holds(http.get(path).content, WORDS), "a report names its patient by pseudonym"
    return study


def _collect(
    installation: Installation,
    traces: Traces,
    database_url: str,
    postgres: EmbeddedPostgres,
    study: dict[str, Any],
) -> None:
    """Everything that stays when the installation has ended."""
    assert installation.stop() == 0
    engine = create_engine(database_url)
    traces.places |= _columns(engine)
    engine.dispose()
    objects = installation.data_dir / "objects"
    keys = [str(path.relative_to(objects)) for path in objects.rglob("*")]
    assert [key for key in keys if study["id"] in key]
    traces.places["object keys"] = "\n".join(keys).encode()
    for path in filter(Path.is_file, objects.rglob("*")):
        place = f"objects called {path.name}" if "results" in path.parts else "objects"
        traces.places[place] = traces.places.get(place, b"") + b"\n" + _content(path)
    log = installation.log().encode()
    assert b'"level": "debug"' in log, "the logs tell all that they can"
    traces.places["logs of hounsfield"] = log
    traces.places["logs of PostgreSQL"] = (postgres.folder / "log").read_bytes()
    for path in (installation.data_dir / "logs").iterdir():
        traces.places[f"logs of {path.stem}"] = path.read_bytes()


def _content(path: Path) -> bytes:
    """What is in a file; the text of a PDF too, which is compressed in it, and that of a compressed volume."""
    data = path.read_bytes()
    if data.startswith(b"%PDF"):
        return data + "\n".join(page.extract_text() for page in PdfReader(path).pages).encode()
    return data + (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else b"")


def _columns(engine: Engine) -> dict[str, bytes]:
    """schema.table.column → everything that is in it, of every table whosever it is."""
    columns: dict[str, list[bytes]] = {}
    ours = "schemaname not in ('pg_catalog', 'information_schema')"
    with engine.connect() as connection:
        for schema, table in connection.execute(
            text(f"select schemaname, tablename from pg_tables where {ours}")
        ):
            for row in connection.execute(text(f'select * from "{schema}"."{table}"')).mappings():
                for name, value in row.items():
                    columns.setdefault(f"{schema}.{table}.{name}", []).append(_bytes(value))
    return {place: b"\n".join([b"", *values]) for place, values in columns.items()}


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes | memoryview):
        return bytes(value)
    return (json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)).encode()


def _json(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    return body
