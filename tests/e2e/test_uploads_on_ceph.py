"""Uploads in parts against a real Ceph: no byte of them passes through us, and a kill in the middle loses nothing."""

from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from functions import upload
from functions.upload.expiry import expire_uploads
from functions.upload.parts.joining import join_parts
from shared.config import Settings
from shared.db.models import Study, StudyFile, Upload
from shared.db.session import Database
from shared.ids import uuid7
from shared.runtime.services import Services
from shared.storage.factory import make_storage
from shared.storage.port import UploadNotFound
from shared.storage.s3 import S3Storage
from tests.contract.conftest import ClientFor, LogIn, client_for, register_and_login
from tests.contract.sending import PART, Sender, announced, content, objects_in, rows
from tests.contract.test_uploads import set_expiry
from tests.e2e.ceph import ACCESS_KEY, SECRET_KEY, Ceph

pytestmark = pytest.mark.e2e
assert client_for and register_and_login  # fixtures


@pytest.fixture
def services(database: Database, settings: Settings, ceph: Ceph) -> Services:
    on_ceph = settings.model_copy(
        update={
            "bcrypt_cost": 4,
            "storage_url": "s3://",
            "s3_endpoint_url": ceph.endpoint,
            "s3_access_key": SecretStr(ACCESS_KEY),
            "s3_secret_key": SecretStr(SECRET_KEY),
            "bucket_prefix": f"up-{uuid7().hex}-",
        }
    )
    storage = make_storage(on_ceph, "http://testserver", lambda: b"not used")
    assert isinstance(storage, S3Storage)
    storage.ensure_buckets()
    return Services(on_ceph, database, storage)


class Direct(Sender):
    """Sends parts straight to the gateway."""

    def put(self, url: str, data: bytes) -> httpx.Response:
        return httpx.put(url, content=data, trust_env=False, timeout=60)


@pytest.fixture
def sender(client_for: ClientFor, register_and_login: LogIn, ceph: Ceph) -> Direct:
    client = client_for(upload.function)
    return Direct(client, register_and_login(client, "dr-sender"))


def test_a_file_goes_straight_to_the_gateway_and_becomes_a_study(services: Services, sender: Direct) -> None:
    data = content(2 * PART + 1000)
    started = sender.start(len(data), kind="ct")
    parts = sender.send(started, data, 3, 1, 2)
    found = sender.get(f"uploads/{started['id']}").json()
    assert [(part["number"], part["size"]) for part in found["received"]] == [(1, PART), (2, PART), (3, 1000)]
    wrong = [*sorted(parts, key=number_of)[:2], {"number": 3, "etag": "0" * 32}]
    assert sender.finish(started, parts=wrong).status_code == 409
    first = sender.finish(started, parts=sorted(parts, key=number_of))
    again = sender.finish(started)
    assert (first.status_code, again.status_code, again.json()) == (202, 200, first.json())
    [file] = rows(services, StudyFile)
    assert services.storage.read(file.bucket, file.key) == data
    assert announced(services) == [first.json()["study_id"]]


def number_of(part: dict[str, Any]) -> int:
    number: int = part["number"]
    return number


def test_a_finish_goes_on_where_a_killed_one_had_joined_the_parts(services: Services, sender: Direct) -> None:
    data = content(PART + 1000)
    started = sender.start(len(data))
    parts = sender.send(started, data)
    [row] = rows(services, Upload)
    join_parts(services.storage, row, None)  # and then it is killed
    found = sender.get(f"uploads/{started['id']}").json()
    assert (found["status"], found["received_bytes"]) == ("open", len(data))
    answer = sender.finish(started, parts=parts)
    assert answer.status_code == 202, answer.text
    assert announced(services) == [str(rows(services, Study)[0].id)]


@pytest.mark.parametrize("expires", [False, True])
def test_what_is_given_up_or_expires_leaves_nothing(
    services: Services, sender: Direct, expires: bool
) -> None:
    data = content(PART + 1000)
    started = sender.start(len(data))
    sender.send(started, data, 1)
    [row] = rows(services, Upload)
    if expires:
        set_expiry(services, started["id"], row.created_at)
        assert expire_uploads(services) == 1
    else:
        assert sender.delete(f"uploads/{started['id']}").status_code == 204
    with pytest.raises(UploadNotFound):
        services.storage.list_parts("incoming", row.key, row.storage_id)
    assert objects_in(services) == []
    assert sender.finish(started).status_code == 409
