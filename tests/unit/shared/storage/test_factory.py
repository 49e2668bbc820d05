"""Which store the settings give."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from shared.config import load_settings
from shared.storage.factory import make_storage
from shared.storage.folder import FolderStorage
from shared.storage.port import Storage
from shared.storage.s3 import S3Storage

HOUR = timedelta(hours=1)


def store(**values: object) -> Storage:
    keys = {"s3_access_key": "key", "s3_secret_key": "secret"}
    return make_storage(load_settings(**keys | values), "http://testserver", b"secret")


def test_unset_is_a_folder_among_the_data(tmp_path: Path) -> None:
    storage = store(data_dir=tmp_path)
    storage.put("incoming", "a", b"x")
    assert isinstance(storage, FolderStorage)
    assert (tmp_path / "objects/incoming/a").exists()


def test_a_file_url_is_a_folder_of_that_path(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    store(storage_url=folder.as_uri()).put("incoming", "a", b"x")
    assert (folder / "incoming/a").exists()


@pytest.mark.parametrize(
    ("values", "endpoint"),
    [
        ({"storage_url": "s3://"}, "https://s3.amazonaws.com"),
        ({"storage_url": "s3:", "s3_region": "eu-west-1"}, "https://s3.eu-west-1.amazonaws.com"),
        ({"storage_url": "s3://ceph.example.org:8443"}, "https://ceph.example.org:8443"),
        ({"storage_url": "s3://127.0.0.1:18000"}, "http://127.0.0.1:18000"),
        ({"storage_url": "s3://", "s3_endpoint_url": "http://rgw.ceph.svc"}, "http://rgw.ceph.svc"),
    ],
)
def test_an_s3_url_or_setting_names_the_endpoint(values: dict[str, object], endpoint: str) -> None:
    storage = store(bucket_prefix="clinic-", **values)
    assert isinstance(storage, S3Storage)
    url = urlsplit(storage.sign_get("studies", "a/b", HOUR))
    assert f"{url.scheme}://{url.netloc}" == endpoint
    assert url.path == "/clinic-studies/a/b"
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url.query


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "/srv/objects", "gs://bucket", "file://srv/objects", "file://"]
)
def test_any_other_address_is_refused_with_what_would_be_right(url: str) -> None:
    with pytest.raises(ValueError, match="HOUNSFIELD_STORAGE_URL"):
        store(storage_url=url)
