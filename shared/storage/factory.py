"""The object store that the settings ask for."""

from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import boto3
from botocore.config import Config

from shared.config import Settings
from shared.storage.folder import FolderStorage
from shared.storage.port import Storage
from shared.storage.s3 import S3Storage
from shared.storage.signing import Secret, UrlSigner

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def make_storage(settings: Settings, base_url: str, secret: Secret) -> Storage:
    """The store of HOUNSFIELD_STORAGE_URL. Raises ValueError for an address that it cannot understand.

    base_url: where clients reach the upload function; secret: signs the folder store's URLs. Unused for S3.
    """
    root = folder_root(settings)
    if root is not None:
        return FolderStorage(root, UrlSigner(secret), base_url)
    url = urlsplit(settings.storage_url or "")
    if url.scheme == "s3":
        client = make_client(settings, _endpoint(settings, url))
        return S3Storage(client, settings.bucket_prefix, settings.work_dir)
    raise ValueError(
        f"HOUNSFIELD_STORAGE_URL is s3://[host:port] or file:///folder, not {settings.storage_url!r}"
    )


def folder_root(settings: Settings) -> Path | None:
    """The folder store's root; None with another store."""
    if settings.storage_url is None:
        return settings.objects_dir
    url = urlsplit(settings.storage_url)
    return _folder(url) if url.scheme == "file" else None


def s3_endpoint(settings: Settings) -> str | None:
    """Where the S3 service is; None for AWS's own, and with another store."""
    url = urlsplit(settings.storage_url or "")
    return _endpoint(settings, url) if url.scheme == "s3" else None


def make_client(settings: Settings, endpoint: str | None) -> Any:
    """A boto3 S3 client that Ceph, MinIO and AWS understand alike."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key and settings.s3_access_key.get_secret_value(),
        aws_secret_access_key=settings.s3_secret_key and settings.s3_secret_key.get_secret_value(),
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},  # no DNS name per bucket
            retries={"mode": "standard", "total_max_attempts": 4},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=32,
            # By default boto3 adds CRC trailers, which older Ceph and MinIO refuse.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _folder(url: SplitResult) -> Path:
    path = Path(unquote(url.path))
    if url.netloc not in ("", "localhost") or not url.path or not path.is_absolute():
        raise ValueError(
            "HOUNSFIELD_STORAGE_URL for a folder has three slashes and a full path: file:///srv/objects"
        )
    return path


def _endpoint(settings: Settings, url: SplitResult) -> str | None:
    """The S3 endpoint; None is AWS's own. A host in the URL is spoken to by TLS unless it is this machine."""
    if settings.s3_endpoint_url or not url.netloc:
        return settings.s3_endpoint_url
    return f"{'http' if url.hostname in _LOOPBACK else 'https'}://{url.netloc}"
