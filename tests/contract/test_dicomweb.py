"""DICOMweb over what is held: who finds what, in which form, and what comes in."""

import io
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    EncapsulatedPDFStorage,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MRImageStorage,
    RLELossless,
)
from python_multipart.multipart import MultipartParser, parse_options_header
from sqlalchemy import select, text
from starlette.testclient import TestClient

from functions import dicom
from functions.dicom.web.multipart import PartReader
from shared.db.models import AuditEntry, Role, Study, StudyFile, User
from shared.runtime.services import Services
from shared.security.principal import Principal
from tests.builders import make_tenant, make_user
from tests.contract.conftest import ClientFor, LogIn
from tests.dicom_holdings import cleaned, hold
from tests.unit.shared.imaging.dicom.builders import make_enhanced, make_image, pixels_of

DICOM = 'multipart/related; type="application/dicom"'
AS_STORED = f"{DICOM}; transfer-syntax=*"
JSON = "application/dicom+json"
Answer = dict[str, Any]


class Desk:
    """A user at their viewer."""

    def __init__(self, services: Services, client: TestClient, headers: dict[str, str], name: str) -> None:
        self.services = services
        self.client = client
        self.headers = headers
        with services.database.system() as session:
            user = session.scalars(select(User).where(User.username == name)).one()
        self.user = Principal(user.id, user.tenant_id, Role(user.role))

    def get(self, path: str, accept: str | None = None, **query: Any) -> Any:
        headers = {**self.headers, **({"accept": accept} if accept else {})}
        return self.client.get(f"/api/dicom-web{path}", headers=headers, params=query)

    def search(self, path: str, **query: Any) -> list[Answer]:
        response = self.get(path, JSON, **query)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == JSON
        found: list[Answer] = response.json()
        return found

    def post(self, content: bytes, type: str = DICOM + "; boundary=XX", path: str = "/studies") -> Any:
        return self.client.post(
            f"/api/dicom-web{path}", content=content, headers={**self.headers, "content-type": type}
        )

    def uid(self, image: Dataset, keyword: str = "SOPInstanceUID") -> str:
        """What stands for an image's UID."""
        return str(cleaned(self.user.tenant_id, image)[keyword].value)

    def at(self, image: Dataset, level: int = 3) -> str:
        """The path of an image, or of its series or study."""
        names = [
            ("studies", "StudyInstanceUID"),
            ("series", "SeriesInstanceUID"),
            ("instances", "SOPInstanceUID"),
        ]
        return "".join(f"/{name}/{self.uid(image, keyword)}" for name, keyword in names[:level])

    def audited(self, action: str) -> list[AuditEntry]:
        with self.services.database.tenant(self.user.tenant_id) as session:
            return list(session.scalars(select(AuditEntry).where(AuditEntry.action == action)))

    def files(self) -> list[StudyFile]:
        with self.services.database.tenant(self.user.tenant_id) as session:
            return list(session.scalars(select(StudyFile).order_by(StudyFile.created_at)))

    def studies(self) -> list[Study]:
        with self.services.database.tenant(self.user.tenant_id) as session:
            return list(session.scalars(select(Study)))


@pytest.fixture
def sit_down(services: Services, client_for: ClientFor, register_and_login: LogIn) -> Callable[[str], Desk]:
    client = client_for(dicom.function)

    def sit(name: str) -> Desk:
        return Desk(services, client, register_and_login(client, name), name)

    return sit


@pytest.fixture
def ada(sit_down: Callable[[str], Desk]) -> Desk:
    return sit_down("ada")


def value(answer: Answer, key: str) -> Any:
    return answer[key].get("Value", [None])[0]


def series(
    count: int = 3, study: str = "1.2.3.4", series: str = "1.2.3.4.1", modality: str = "CT", **tags: Any
) -> list[Dataset]:
    return [
        make_image(
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            Modality=modality,
            InstanceNumber=number,
            PixelData=pixels_of(number).tobytes(),
            **({"StudyDate": "20250314", "StudyDescription": "THORAX", "PatientSex": "F"} | tags),
        )
        for number in range(1, count + 1)
    ]


def parts_of(response: Any) -> list[tuple[dict[str, str], bytes]]:
    """Headers and content of each part."""
    _, options = parse_options_header(response.headers["content-type"])
    found: list[tuple[dict[str, str], bytes]] = []
    state = {"name": b"", "value": b""}

    def end_header() -> None:
        found[-1][0][state["name"].decode().lower()] = state["value"].decode()
        state.update(name=b"", value=b"")

    def add(key: str, data: bytes, start: int, end: int) -> None:
        state[key] += data[start:end]

    def content(data: bytes, start: int, end: int) -> None:
        found[-1] = (found[-1][0], found[-1][1] + data[start:end])

    parser = MultipartParser(
        options[b"boundary"],
        {
            "on_part_begin": lambda: found.append(({}, b"")),
            "on_header_field": lambda *data: add("name", *data),
            "on_header_value": lambda *data: add("value", *data),
            "on_header_end": end_header,
            "on_part_data": content,
        },
    )
    parser.write(response.content)
    parser.finalize()
    return found


def instances_in(response: Any) -> list[Dataset]:
    assert response.status_code == 200, response.text
    return [dcmread(io.BytesIO(content)) for _, content in parts_of(response)]


# QIDO-RS


def test_a_study_is_found_with_what_viewers_show_of_it(ada: Desk) -> None:
    images = [*series(3), *series(2, series="1.2.3.4.2", modality="MR", SOPClassUID=MRImageStorage)]
    study_id = hold(ada.services, ada.user, images)
    [found] = ada.search("/studies")
    assert value(found, "0020000D") == ada.uid(images[0], "StudyInstanceUID") != "1.2.3.4"
    assert found["00080061"]["Value"] == ["CT", "MR"]
    assert (value(found, "00201206"), value(found, "00201208")) == (2, 5)
    assert value(found, "00100020") == f"PAT-{study_id.hex[-8:]}"
    assert value(found, "00100040") == "F" and value(found, "00081030") == "THORAX"
    assert value(found, "00080020") != "20250314", "dates are moved"
    assert found["00081190"]["Value"][0].endswith(f"/api/dicom-web{ada.at(images[0], 1)}")
    for shown in ("00080030", "00080050", "00080090", "00100010", "00100030", "00200010"):
        assert shown in found, "PS3.18 table 10.6.3-3"


def test_series_and_instances_are_found_below_their_study_and_anywhere(ada: Desk) -> None:
    images = series(3)
    hold(ada.services, ada.user, images)
    for path in ("/series", f"{ada.at(images[0], 1)}/series"):
        [found] = ada.search(path)
        assert value(found, "0020000E") == ada.uid(images[0], "SeriesInstanceUID")
        assert (value(found, "00080060"), value(found, "00200011"), value(found, "00201209")) == ("CT", 2, 3)
    for path in ("/instances", f"{ada.at(images[0], 1)}/instances", f"{ada.at(images[0], 2)}/instances"):
        shown = ada.search(path)
        assert [value(one, "00200013") for one in shown] == [1, 2, 3]
        assert [value(one, "00080018") for one in shown] == [ada.uid(image) for image in images]
        assert (value(shown[0], "00280010"), value(shown[0], "00280011"), value(shown[0], "00280100")) == (
            6,
            8,
            16,
        )
        assert value(shown[0], "00080016") == CTImageStorage


@pytest.fixture
def three(ada: Desk) -> list[str]:
    """Three studies' UIDs, by their numbers."""
    of = [
        series(1, "1.2.1", "1.2.1.1", StudyDescription="HEAD", SeriesNumber=1),
        series(1, "1.2.2", "1.2.2.1", "MR", StudyDescription="HEAD AND NECK", SeriesNumber=2),
        series(1, "1.2.3", "1.2.3.1", "OPT", StudyDescription="EYE", SeriesNumber=3),
    ]
    for images in of:
        hold(ada.services, ada.user, images)
    return [ada.uid(images[0], "StudyInstanceUID") for images in of]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, {0, 1, 2}),
        ({"StudyDescription": "HEAD"}, {0}),
        ({"00081030": "HEAD*"}, {0, 1}),
        ({"StudyDescription": "HEA?"}, {0}),
        ({"StudyDescription": "*NECK"}, {1}),
        ({"StudyDescription": "H_AD*"}, set()),
        ({"StudyDescription": "%"}, set()),
        ({"StudyDescription": "_EAD"}, set()),
        ({"StudyDescription": "head"}, set()),
        ({"ModalitiesInStudy": "MR"}, {1}),
        ({"ModalitiesInStudy": "CT,MR"}, {0, 1}),
        ({"00080060": "OPT"}, {2}),
        ({"SeriesNumber": "3"}, {2}),
        ({"PatientName": "*"}, {0, 1, 2}),
        ({"PatientID": "4711"}, set()),
        ({"StudyInstanceUID": "1.2.1"}, set()),
        ({"SOPClassUID": CTImageStorage}, {0, 1, 2}),
        ({"SOPClassUID": MRImageStorage}, set()),
        ({"InstanceNumber": "2"}, set()),
    ],
    ids=str,
)
def test_matching(ada: Desk, three: list[str], query: dict[str, str], expected: set[int]) -> None:
    found = {three.index(value(one, "0020000D")) for one in ada.search("/studies", **query)}
    assert found == expected


def test_by_uid_one_or_several(ada: Desk, three: list[str]) -> None:
    for wanted in (three[:1], three[:2]):
        for separator in (",", "\\"):
            found = ada.search("/studies", StudyInstanceUID=separator.join(wanted))
            assert {value(one, "0020000D") for one in found} == set(wanted)


def test_by_date(ada: Desk, three: list[str]) -> None:
    day = value(ada.search("/studies")[0], "00080020")
    before, after = (
        (datetime.strptime(day, "%Y%m%d") + timedelta(days=days)).strftime("%Y%m%d") for days in (-1, 1)
    )
    for range_, count in (
        (day, 3),
        (f"{day}-{day}", 3),
        (f"{before}-", 3),
        (f"-{after}", 3),
        (f"-{before}", 0),
        (f"{after}-", 0),
        (before, 0),
    ):
        assert len(ada.search("/studies", StudyDate=range_)) == count, range_


def test_by_time(ada: Desk) -> None:
    hold(ada.services, ada.user, [make_image(StudyTime="101500")])
    found = {
        "080000-120000": 1,
        "10-10": 1,
        "-1015": 1,
        "101500-": 1,
        "101500": 1,
        "1016-": 0,
        "-09": 0,
        "11-12": 0,
    }
    for range_, count in found.items():
        assert len(ada.search("/studies", StudyTime=range_)) == count, range_


@pytest.mark.parametrize(
    "query",
    [{"StudyDate": "yesterday"}, {"StudyDate": "20250231"}, {"StudyDate": "-"}, {"SeriesNumber": "two"}],
)
def test_what_cannot_be_matched_is_said(ada: Desk, query: dict[str, str]) -> None:
    answer = ada.get("/studies", **query)
    assert answer.status_code == 400 and answer.headers["content-type"] == "application/problem+json"


def test_what_is_not_matched_is_warned_of(ada: Desk, three: list[str]) -> None:
    for name in ("PixelData", "NoSuchThing", "00000000", "NumberOfStudyRelatedInstances"):
        answer = ada.get("/studies", **{name: "1"})
        assert answer.status_code == 200 and answer.headers["warning"].startswith("299 ")
    assert "warning" not in ada.get("/studies", fuzzymatching="true", includefield="all").headers


def test_pages(ada: Desk, three: list[str]) -> None:
    first = ada.get("/studies", limit=2)
    assert len(first.json()) == 2 and "offset=2" in first.headers["warning"]
    rest = ada.get("/studies", limit=2, offset=2)
    assert len(rest.json()) == 1 and "warning" not in rest.headers
    shown = {value(one, "0020000D") for one in [*first.json(), *rest.json()]}
    assert shown == set(three)


def test_what_came_twice_or_in_parts_is_one_study(ada: Desk) -> None:
    images = series(4)
    hold(ada.services, ada.user, images[:3])
    hold(ada.services, ada.user, images[1:])
    [study] = ada.search("/studies")
    assert (value(study, "00201206"), value(study, "00201208")) == (1, 4)
    assert len(ada.search("/instances")) == 4
    assert len(instances_in(ada.get(ada.at(images[0], 1), AS_STORED))) == 4


# Whose


def test_others_find_nothing_and_administrators_their_tenants(
    ada: Desk, sit_down: Callable[[str], Desk]
) -> None:
    images = series(1)
    hold(ada.services, ada.user, images)
    bob = sit_down("bob")
    paths = [ada.at(images[0], level) for level in (1, 2, 3)]
    paths += [f"{path}/metadata" for path in paths] + [
        f"{paths[2]}/frames/1",
        f"{paths[2]}/bulkdata/7FE00010",
    ]
    for path in paths:
        assert bob.get(path).status_code == 404, path
        assert ada.get(path).status_code == 200, path
    assert bob.search("/studies") == [] == bob.search("/series") == bob.search("/instances")
    with ada.services.database.tenant(bob.user.tenant_id) as session:
        session.get_one(User, bob.user.user_id).role = Role.ADMIN
    admin = Desk(ada.services, bob.client, bob.headers, "bob")
    assert len(hold_of_another_tenant(ada.services)) == 1
    assert admin.user.role is Role.ADMIN


def hold_of_another_tenant(services: Services) -> list[UUID]:
    stranger = make_user(services.database, make_tenant(services.database), Role.ADMIN)
    return [hold(services, stranger, series(1, "1.9.9", "1.9.9.1"))]


def test_another_tenants_are_nobodys_here(ada: Desk) -> None:
    hold_of_another_tenant(ada.services)
    assert ada.search("/instances") == []


@pytest.mark.parametrize("hidden", [{"held": ["burned-in text"]}, {"status": "rejected"}], ids=str)
def test_what_waits_for_a_person_or_was_rejected_is_not_shown(ada: Desk, hidden: dict[str, Any]) -> None:
    images = series(1)
    hold(ada.services, ada.user, images, **hidden)
    assert ada.search("/studies") == []
    assert ada.get(ada.at(images[0])).status_code == 404


def test_what_was_released_is_shown(ada: Desk) -> None:
    hold(ada.services, ada.user, series(1), held=["burned-in text"], released_by=ada.user.user_id)
    assert len(ada.search("/studies")) == 1


def test_what_is_shown_and_read_is_recorded(ada: Desk) -> None:
    images = series(3)
    study_id = hold(ada.services, ada.user, images)
    ada.search("/studies")
    ada.get(ada.at(images[0], 2), AS_STORED)
    ada.get(f"{ada.at(images[0])}/frames/1")
    [listed] = ada.audited("study.list")
    patient = f"PAT-{study_id.hex[-8:]}"
    assert listed.details == {"studies": [str(study_id)], "patients": [patient], "by": "dicom"}
    read = ada.audited("study.read")
    assert [entry.details["images"] for entry in read] == [3, 1]
    assert {(entry.subject_id, entry.patient_id) for entry in read} == {(study_id, patient)}


# WADO-RS


def test_a_series_comes_back_as_it_is_held(ada: Desk) -> None:
    images = series(3)
    hold(ada.services, ada.user, images)
    for level in (1, 2):
        answer = ada.get(ada.at(images[0], level), AS_STORED)
        assert answer.headers["content-type"].startswith(DICOM + "; boundary=")
        assert int(answer.headers["content-length"]) == len(answer.content)
        found = instances_in(answer)
        assert [one.SOPInstanceUID for one in found] == [ada.uid(image) for image in images]
        for one, image in zip(found, images, strict=True):
            assert one.PixelData == image.PixelData
            assert one.PatientName == "" and one.PatientID.startswith("PAT-")
    heads = [head for head, _ in parts_of(answer)]
    assert heads[0]["content-type"] == "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    assert heads[0]["content-location"].endswith(ada.at(images[0]))


def test_one_instance_comes_with_parts_or_without(ada: Desk) -> None:
    images = series(2)
    hold(ada.services, ada.user, images)
    [in_parts] = instances_in(ada.get(ada.at(images[1]), DICOM))
    plain = ada.get(ada.at(images[1]), "application/dicom")
    assert plain.headers["content-type"].startswith("application/dicom")
    assert int(plain.headers["content-length"]) == len(plain.content)
    assert dcmread(io.BytesIO(plain.content)).SOPInstanceUID == in_parts.SOPInstanceUID == ada.uid(images[1])


IMPLICIT, EXPLICIT, DEFLATED = (UID(f"1.2.840.10008.1.2{end}") for end in ("", ".1", ".1.99"))


@pytest.mark.parametrize("stored", [IMPLICIT, DEFLATED], ids=lambda uid: uid.name)
def test_plain_images_are_rewritten_for_who_asks_for_explicit_little_endian(ada: Desk, stored: UID) -> None:
    image = make_image()
    image.file_meta.TransferSyntaxUID = stored
    hold(ada.services, ada.user, [image])
    [as_stored] = instances_in(ada.get(ada.at(image), AS_STORED))
    assert as_stored.file_meta.TransferSyntaxUID == stored
    for accept in (DICOM, f"{DICOM}; transfer-syntax={EXPLICIT}"):
        [found] = instances_in(ada.get(ada.at(image), accept))
        assert found.file_meta.TransferSyntaxUID == EXPLICIT and found.PixelData == image.PixelData


def compressed(syntax: UID = JPEG2000Lossless, frames: int = 1) -> Dataset:
    """An image whose frames only claim to be compressed: nothing here looks into them."""
    image = make_image(NumberOfFrames=frames) if frames > 1 else make_image()
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate([bytes([number]) * 100 for number in range(1, frames + 1)])
    image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
    return image


@pytest.mark.parametrize(
    "accept",
    [
        DICOM,
        f"{DICOM}; transfer-syntax={EXPLICIT}",
        "image/png",
        'multipart/related; type="image/png"',
        "text/html",
    ],
)
def test_what_cannot_be_had_in_that_form_is_refused(ada: Desk, accept: str) -> None:
    image = compressed()
    hold(ada.services, ada.user, [image])
    answer = ada.get(ada.at(image), accept)
    assert answer.status_code == 406 and "transfer-syntax=*" in answer.json()["detail"]


@pytest.mark.parametrize("accept", [None, "*/*", AS_STORED, f"{DICOM}; transfer-syntax={JPEG2000Lossless}"])
def test_compressed_images_come_as_they_are(ada: Desk, accept: str | None) -> None:
    image = compressed()
    hold(ada.services, ada.user, [image])
    [found] = instances_in(ada.get(ada.at(image), accept))
    assert found.file_meta.TransferSyntaxUID == JPEG2000Lossless and found.PixelData == image.PixelData


def test_metadata_has_everything_but_the_pixels(ada: Desk) -> None:
    images = series(3, RedPaletteColorLookupTableData=None)
    hold(ada.services, ada.user, images)
    for path, count in ((ada.at(images[0], 1), 3), (ada.at(images[0], 2), 3), (ada.at(images[0]), 1)):
        found = ada.search(f"{path}/metadata")
        assert [value(one, "00080018") for one in found] == [ada.uid(image) for image in images[:count]]
    one = found[0]
    assert value(one, "00200032") == -10.0 and one["00280030"]["Value"] == [0.75, 0.5]
    assert value(one, "00100020").startswith("PAT-") and value(one, "00281053") == 1
    assert one["7FE00010"]["BulkDataURI"].endswith(f"{ada.at(images[0])}/bulkdata/7FE00010")
    for needed in (
        "00080016",
        "00280002",
        "00280004",
        "00280100",
        "00280101",
        "00280102",
        "00280103",
        "00200037",
    ):
        assert needed in one, "viewers need it"
    assert "4711" not in json.dumps(found) and "Doe" not in json.dumps(found)


def test_metadata_of_numbers_that_json_has_no_words_for(ada: Desk) -> None:
    image = make_image(
        RealWorldValueIntercept=None, TableTopVerticalPosition=None, DiffusionBValue=float("nan")
    )
    hold(ada.services, ada.user, [image])
    [found] = ada.search(f"{ada.at(image)}/metadata")
    assert found.get("00189087", {"Value": [None]})["Value"] == [None]


def test_plain_frames(ada: Desk) -> None:
    image = make_enhanced([(0.0, 0.0, float(z)) for z in range(4)])
    hold(ada.services, ada.user, [image])
    answer = ada.get(f"{ada.at(image)}/frames/2,4", 'multipart/related; type="application/octet-stream"')
    heads, contents = zip(*parts_of(answer), strict=True)
    assert [np.frombuffer(content, "<i2").reshape(6, 8).tolist() for content in contents] == [
        pixels_of(1).tolist(),
        pixels_of(3).tolist(),
    ]
    assert heads[0]["content-type"] == f"application/octet-stream; transfer-syntax={EXPLICIT}"


@pytest.mark.parametrize("stored", [IMPLICIT, DEFLATED], ids=lambda uid: uid.name)
def test_plain_frames_of_every_encoding(ada: Desk, stored: UID) -> None:
    image = make_image()
    image.file_meta.TransferSyntaxUID = stored
    hold(ada.services, ada.user, [image])
    [(_, content)] = parts_of(ada.get(f"{ada.at(image)}/frames/1"))
    assert content == image.PixelData


@pytest.mark.parametrize(
    ("syntax", "media_type"),
    [(JPEG2000Lossless, "image/jp2"), (JPEGBaseline8Bit, "image/jpeg"), (RLELossless, "image/dicom-rle")],
)
@pytest.mark.parametrize(
    "accept", [None, 'multipart/related; type="{}"', 'multipart/related; type="image/*"']
)
def test_compressed_frames_come_as_what_they_are(
    ada: Desk, syntax: UID, media_type: str, accept: str | None
) -> None:
    image = compressed(syntax, frames=3)
    hold(ada.services, ada.user, [image])
    answer = ada.get(f"{ada.at(image)}/frames/3,1", accept.format(media_type) if accept else None)
    assert [(head["content-type"], content) for head, content in parts_of(answer)] == [
        (f"{media_type}; transfer-syntax={syntax}", bytes([number]) * 100) for number in (3, 1)
    ]


def test_viewers_that_take_any_bytes_get_compressed_ones_and_others_are_refused(ada: Desk) -> None:
    image = compressed()
    hold(ada.services, ada.user, [image])
    any_bytes = 'multipart/related; type="application/octet-stream"'
    assert ada.get(f"{ada.at(image)}/frames/1", f"{any_bytes}; transfer-syntax=*").status_code == 200
    assert ada.get(f"{ada.at(image)}/frames/1", any_bytes).status_code == 406


@pytest.mark.parametrize("frame", ["2", "1,2", "9999999"])
def test_frames_that_are_not_there(ada: Desk, frame: str) -> None:
    image = make_image()
    hold(ada.services, ada.user, [image])
    answer = ada.get(f"{ada.at(image)}/frames/{frame}")
    assert answer.status_code == 404 and "the image has 1 frames" in answer.json()["detail"]


def test_bulk_data(ada: Desk) -> None:
    plain, other = make_image(), compressed(frames=2)
    other.SeriesInstanceUID = "1.2.3.4.2"
    hold(ada.services, ada.user, [plain, other])
    [(_, content)] = parts_of(ada.get(f"{ada.at(plain)}/bulkdata/7FE00010"))
    assert content == plain.PixelData
    assert [content for _, content in parts_of(ada.get(f"{ada.at(other)}/bulkdata/7fe00010"))] == [
        b"\x01" * 100,
        b"\x02" * 100,
    ]
    assert ada.get(f"{ada.at(plain)}/bulkdata/00100010").status_code == 404


# STOW-RS


def body(parts: Sequence[bytes | Dataset], head: str = "Content-Type: application/dicom") -> bytes:
    return (
        b"".join(b"--XX\r\n" + head.encode() + b"\r\n\r\n" + encoded(part) + b"\r\n" for part in parts)
        + b"--XX--\r\n"
    )


def encoded(image: bytes | Dataset) -> bytes:
    if isinstance(image, bytes):
        return image
    file = io.BytesIO()
    image.save_as(file, enforce_file_format=True)
    return file.getvalue()


def test_images_come_in_and_are_answered_one_by_one(ada: Desk) -> None:
    images = series(3)
    answer = ada.post(body(images))
    assert answer.status_code == 200 and answer.headers["content-type"] == JSON
    said = answer.json()
    [study] = ada.studies()
    url = f"/api/studies/{study.id}"
    assert said["00081190"]["Value"][0].endswith(url)
    stored = said["00081199"]["Value"]
    assert [value(one, "00081155") for one in stored] == [image.SOPInstanceUID for image in images]
    assert {value(one, "00081150") for one in stored} == {CTImageStorage}
    assert all(value(one, "00081190").endswith(url) for one in stored)
    assert (study.status, study.kind, study.owner_id) == ("receiving", None, ada.user.user_id)
    assert {file.role for file in ada.files()} == {"received"} and len(ada.files()) == 3


def test_batches_of_one_study_become_one_and_the_same_image_again_takes_its_place(ada: Desk) -> None:
    images = series(4)
    assert ada.post(body(images[:2])).status_code == 200
    assert ada.post(body(images[1:])).status_code == 200
    assert len(ada.studies()) == 1 and len(ada.files()) == 4
    objects = {ref.key for ref in ada.services.storage.list_objects("incoming")}
    assert objects == {file.key for file in ada.files()}


def test_what_two_people_send_becomes_two_studies(ada: Desk, sit_down: Callable[[str], Desk]) -> None:
    images = series(1)
    bob = sit_down("bob")
    assert ada.post(body(images)).status_code == bob.post(body(images)).status_code == 200
    assert {study.owner_id for study in ada.studies()} == {ada.user.user_id, bob.user.user_id}


def test_a_wrong_one_among_right_ones_is_named(ada: Desk) -> None:
    good = make_image()
    document = make_image(SOPClassUID=EncapsulatedPDFStorage, Rows=None, Columns=None, PixelData=None)
    cut = encoded(make_image())[:-20]
    answer = ada.post(body([document, good, cut, b"no DICOM at all", b""]))
    assert answer.status_code == 202
    said = answer.json()
    assert [value(one, "00081155") for one in said["00081199"]["Value"]] == [good.SOPInstanceUID]
    reasons = [value(one, "00081197") for one in said["00081198"]["Value"]]
    assert reasons == [0x0122, 0xC000, 0xC000, 0xC000]
    assert len(ada.files()) == 1


def test_nothing_but_wrong_ones_is_a_conflict(ada: Desk) -> None:
    answer = ada.post(body([b"%PDF-1.7", b"PK\x03\x04"]))
    assert answer.status_code == 409 and len(answer.json()["00081198"]["Value"]) == 2
    assert ada.studies() == []


def test_of_another_study_than_the_url_names_nothing_is_taken(ada: Desk) -> None:
    ours, other = make_image(), make_image(StudyInstanceUID="1.2.99")
    answer = ada.post(body([ours, other]), path="/studies/1.2.3.4")
    assert answer.status_code == 202
    assert value(answer.json()["00081198"]["Value"][0], "00081155") == other.SOPInstanceUID
    assert len(ada.studies()) == 1


def test_a_preamble_that_was_left_out_is_added(ada: Desk) -> None:
    image = make_image()
    assert ada.post(body([encoded(image)[132:]])).status_code == 200
    [file] = ada.files()
    assert ada.services.storage.read("incoming", file.key) == encoded(image)


def test_where_there_is_no_room_the_sender_is_told_so(ada: Desk) -> None:
    with ada.services.database.engine.begin() as owner:
        owner.execute(text("update tenants set quota_bytes = 1"))
    answer = ada.post(body([make_image()]))
    assert answer.status_code == 409
    assert value(answer.json()["00081198"]["Value"][0], "00081197") == 0xA700
    assert list(ada.services.storage.list_objects("incoming")) == []


@pytest.mark.parametrize(
    ("content", "type", "status"),
    [
        (body([b"x"]), "application/dicom", 415),
        (body([b"x"]), "multipart/form-data; boundary=XX", 415),
        (body([b"x"]), 'multipart/related; type="application/dicom+json"; boundary=XX', 415),
        (body([b"x"]), "multipart/related", 400),
        (body([b"x"]), f"{DICOM}; boundary=", 400),
        (body([b"x"]), f"{DICOM}; boundary={'X' * 71}", 400),
        (body([b"x"]), f"{DICOM}; boundary=YY", 400),
        (b"", f"{DICOM}; boundary=XX", 400),
        (b"--XX--\r\n", f"{DICOM}; boundary=XX", 400),
        (body([b"x"])[:-10], f"{DICOM}; boundary=XX", 400),
        (b"--XX\r\n" + b"A: " + b"b" * 1_000_000 + b"\r\n\r\nx\r\n--XX--\r\n", f"{DICOM}; boundary=XX", 400),
        (b"--XX\r\n" + b"A: b\r\n" * 1000 + b"\r\nx\r\n--XX--\r\n", f"{DICOM}; boundary=XX", 400),
        (b"\0" * 100_000, f"{DICOM}; boundary=XX", 400),
        (b"\0" * 100_000 + b"\r\n" + body([b"x"]), f"{DICOM}; boundary=XX", 400),
    ],
    ids=[
        "no parts",
        "a form",
        "JSON inside",
        "no boundary",
        "empty boundary",
        "long boundary",
        "another boundary",
        "empty",
        "no part",
        "cut off",
        "a header of a megabyte",
        "a thousand headers",
        "zeros",
        "too much before the parts",
    ],
)
def test_bodies_that_are_not_parts_are_refused(ada: Desk, content: bytes, type: str, status: int) -> None:
    answer = ada.post(content, type)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert ada.studies() == []


@pytest.mark.parametrize("step", [1, 7, 1 << 20], ids=lambda step: f"{step} bytes at a time")
@pytest.mark.parametrize("before", [b"", b"\r\n", b"This is a message in parts.\r\n-- XX --\r\n"])
def test_what_stands_before_and_after_the_parts_is_not_read(tmp_path: Path, before: bytes, step: int) -> None:
    found: list[bytes] = []

    def done(_: str, file: IO[bytes] | None) -> None:
        assert file is not None
        file.seek(0)
        found.append(file.read())

    reader = PartReader(b"XX", 100, tmp_path, done)
    sent = before + body([b"one", b"--XX is in the middle"]) + b"That was it."
    for at in range(0, len(sent), step):
        reader.feed(sent[at : at + step])
    reader.finish()
    assert found == [b"one", b"--XX is in the middle"]


def test_parts_within_parts_are_not_looked_into(ada: Desk) -> None:
    inner = body([make_image()]).replace(b"XX", b"YY")
    answer = ada.post(body([inner], "Content-Type: multipart/related; boundary=YY"))
    assert answer.status_code == 409 and ada.studies() == []


def test_an_answer_in_xml_is_not_to_be_had(ada: Desk) -> None:
    headers = {**ada.headers, "content-type": f"{DICOM}; boundary=XX", "accept": "application/dicom+xml"}
    assert (
        ada.client.post("/api/dicom-web/studies", content=body([make_image()]), headers=headers).status_code
        == 406
    )
    assert ada.studies() == []


def test_who_may_not_send_is_refused_unread(ada: Desk) -> None:
    answer = ada.client.post(
        "/api/dicom-web/studies",
        content=body([make_image()]),
        headers={"content-type": f"{DICOM}; boundary=XX"},
    )
    assert answer.status_code == 401
