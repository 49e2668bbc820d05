"""DCMTK and dicomweb-client, as hospitals use them, against a running installation."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_auth
from pydicom import Dataset
from requests.auth import AuthBase

from shared.oip.server_process import ModelServerProcess
from tests.conftest import open_folder
from tests.e2e import dcmtk
from tests.e2e.certificates import Authority
from tests.integration.conftest import model_server, objects_dir
from tests.integration.installation import Installation, free_port
from tests.unit.shared.imaging.dicom.builders import make_image, save

assert model_server and objects_dir  # fixtures
SLICES = 512
PEERS = '{"MODALITY": "127.0.0.1", "ELSEWHERE": "192.0.2.1"}'
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


class Bearer(AuthBase):
    """Shows the access token of an installation that somebody logged in to."""

    def __init__(self, installation: Installation) -> None:
        self._header = installation.http.headers["Authorization"]

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = self._header
        return request


class Site:
    """An installation with a DICOM node."""

    def __init__(self, folder: Path, model_url: str, **more: str) -> None:
        self.folder = folder
        self.dicom_port = free_port()
        environment = {
            "HOUNSFIELD_DICOM_PORT": str(self.dicom_port),
            "HOUNSFIELD_DICOM_PEERS": PEERS,
            "HOUNSFIELD_SETTLE_SECONDS": "20",
            **more,
        }
        self.installation = Installation(folder / "data", model_url, **environment)

    def start(self) -> None:
        self.installation.start()
        self.installation.login()

    def studies(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.installation.http.get("studies").json()["items"]
        return found

    def study(self, study_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.installation.http.get(f"studies/{study_id}").json()
        return found

    def web(self) -> DICOMwebClient:
        session = create_session_from_auth(Bearer(self.installation))
        session.trust_env = False
        return DICOMwebClient(f"{self.installation.http.base_url}dicom-web", session=session)


@pytest.fixture(scope="module")
def tools() -> None:
    """A loud skip where DCMTK is missing."""
    if not dcmtk.is_installed():
        pytest.skip("DCMTK MISSING: run `python -m tests.e2e.dcmtk install` as root")


@pytest.fixture
def make_site(tools: None, model_server: ModelServerProcess) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []
    with open_folder() as folder:

        def make(**environment: str) -> Site:
            place = folder / str(len(made))
            place.mkdir()
            made.append(Site(place, model_server.url, **environment))
            return made[-1]

        yield make
        for site in made:
            site.installation.__exit__(None, None, None)


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    site = make_site()
    site.start()
    return site


def write_series(
    folder: Path, count: int, study: str = "1.2.826.0.1.3680043.99999.7", size: int = 512
) -> list[Dataset]:
    """CT slices of a person whose name must not be found again."""
    random = np.random.default_rng(7)
    images = []
    for number in range(count):
        pixels = (1000 + random.normal(0, 20, (size, size))).astype("<i2")
        image = make_image(
            StudyInstanceUID=study,
            SeriesInstanceUID=f"{study}.1",
            InstanceNumber=number + 1,
            PatientName="Quibbleworth^Zacharias",
            PatientID="HOSP-4711",
            StudyDate="20250314",
            Rows=size,
            Columns=size,
            ImagePositionPatient=[-10.0, -20.0, float(number)],
            PixelData=pixels.tobytes(),
        )
        save(image, folder / f"{number:04}.dcm")
        images.append(image)
    return images


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.2)
    return found


def ingested(site: Site) -> dict[str, Any] | None:
    """The one study, once ingest is done with it."""
    found = [one for one in site.studies() if one["status"] not in ("receiving",)]
    return site.study(found[0]["id"]) if found else None


def test_echo(site: Site) -> None:
    assert dcmtk.run("echoscu", site.dicom_port).returncode == 0
    for wrong in ({"caller": "STRANGER"}, {"caller": "ELSEWHERE"}, {"called": "OTHER"}):
        refused = dcmtk.run("echoscu", site.dicom_port, options=["-v"], **wrong)
        assert refused.returncode != 0 and "Rejected" in refused.stdout, refused.stdout


def test_a_series_sent_by_storescu_becomes_one_study(site: Site) -> None:
    write_series(site.folder / "ct", SLICES)
    sent = dcmtk.run("storescu", site.dicom_port, str(site.folder / "ct"), options=["-v", "+sd"])
    assert sent.returncode == 0, sent.stdout[-2000:]
    assert sent.stdout.count("Received Store Response (Success)") == SLICES
    study = until(lambda: ingested(site), 300)
    assert len(site.studies()) == 1 and study["kind"] == "ct" and study["status"] != "rejected", study[
        "message"
    ]
    [found] = site.web().search_for_studies()
    assert found["00201208"]["Value"] == [SLICES]
    asked = [
        "-S",
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-k",
        "NumberOfStudyRelatedInstances",
        "-k",
        "PatientName",
    ]
    answered = dcmtk.run("findscu", site.dicom_port, options=[*asked, "-v", "-k", "StudyInstanceUID"])
    assert answered.returncode == 0
    assert found["0020000D"]["Value"][0] in answered.stdout and f"[{SLICES}" in answered.stdout
    said = site.installation.log() + answered.stdout + str(found)
    for name in ("Quibbleworth", "QUIBBLEWORTH", "HOSP-4711", "1.2.826.0.1.3680043.99999"):
        assert name not in said


def test_killed_while_it_receives_it_loses_nothing_that_it_acknowledged(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(HOUNSFIELD_SETTLE_SECONDS="75")
    site.start()
    write_series(site.folder / "ct", 120, size=256)
    options = ["-v", "+sd", "-nh"]
    command = [
        "storescu",
        "-aet",
        "MODALITY",
        "-aec",
        "HOUNSFIELD",
        *options,
        "127.0.0.1",
        str(site.dicom_port),
    ]
    sender = subprocess.Popen(
        [*command, str(site.folder / "ct")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert sender.stdout is not None
    acknowledged = 0
    while acknowledged < 40:
        acknowledged += b"(Success)" in sender.stdout.readline()
    site.installation.kill()
    acknowledged += sender.communicate(timeout=60)[0].count(b"(Success)")
    assert 40 <= acknowledged < 120
    site.start()
    [study] = site.studies()
    assert study["status"] == "receiving"
    kept = len(site.study(study["id"])["files"])
    assert acknowledged <= kept <= acknowledged + 1
    again = dcmtk.run("storescu", site.dicom_port, str(site.folder / "ct"), options=["-v", "+sd"])
    assert again.stdout.count("Received Store Response (Success)") == 120, again.stdout[-2000:]
    until(lambda: ingested(site), seconds=200)
    assert len(site.studies()) == 1
    [found] = site.web().search_for_studies()
    assert found["00201208"]["Value"] == [120], "all of them, once"


def test_over_tls(make_site: Callable[..., Site]) -> None:
    with open_folder() as folder:
        authority = Authority(folder)
        certificate, key = authority.issue("127.0.0.1")
        site = make_site(
            HOUNSFIELD_DICOM_TLS_CERT_FILE=str(certificate),
            HOUNSFIELD_DICOM_TLS_KEY_FILE=str(key),
            HOUNSFIELD_DICOM_TLS_CA_FILE=str(authority.file),
        )
        site.start()
        write_series(site.folder / "ct", 3, size=64)
        tls = ["+tls", str(key), str(certificate), "+cf", str(authority.file)]
        assert dcmtk.run("echoscu", site.dicom_port, options=tls).returncode == 0
        sent = dcmtk.run("storescu", site.dicom_port, str(site.folder / "ct"), options=["-v", "+sd", *tls])
        assert sent.stdout.count("(Success)") == 3, sent.stdout
        anonymous = dcmtk.run("echoscu", site.dicom_port, options=["+tla", "+cf", str(authority.file)])
        assert anonymous.returncode != 0, "who shows no certificate is not let in"
        assert dcmtk.run("echoscu", site.dicom_port, options=["-ta", "5"]).returncode != 0, "nor without TLS"


def test_dicomweb_client_stores_searches_and_retrieves(site: Site) -> None:
    images = write_series(site.folder / "ct", 12, size=128)
    web = site.web()
    for batch in (images[:5], images[5:]):
        stored = web.store_instances(batch)
        assert len(stored.ReferencedSOPSequence) == len(batch) and "FailedSOPSequence" not in stored
    study = until(lambda: ingested(site))
    assert study["status"] != "rejected", study["message"]
    [study] = web.search_for_studies(search_filters={"ModalitiesInStudy": "CT"})
    uid = study["0020000D"]["Value"][0]
    assert uid != images[0].StudyInstanceUID
    assert web.search_for_studies(search_filters={"StudyInstanceUID": images[0].StudyInstanceUID}) == []
    [series] = web.search_for_series(uid)
    series_uid = series["0020000E"]["Value"][0]
    found = web.search_for_instances(uid, series_uid)
    assert [one["00200013"]["Value"][0] for one in found] == list(range(1, 13))
    retrieved = web.retrieve_series(uid, series_uid)
    assert [one.PixelData for one in retrieved] == [image.PixelData for image in images], "pixel by pixel"
    assert all(one.PatientName == "" and one.PatientID != "HOSP-4711" for one in retrieved)
    metadata = web.retrieve_series_metadata(uid, series_uid)
    assert len(metadata) == 12 and metadata[0]["7FE00010"].keys() == {"vr", "BulkDataURI"}
    instance_uid = found[6]["00080018"]["Value"][0]
    [frame] = web.retrieve_instance_frames(uid, series_uid, instance_uid, [1])
    assert frame == images[6].PixelData
    assert web.retrieve_instance(uid, series_uid, instance_uid).PixelData == images[6].PixelData
    [bulk] = web.retrieve_bulkdata(metadata[6]["7FE00010"]["BulkDataURI"])
    assert bulk == images[6].PixelData
