"""Objects in an S3 service: Ceph RADOS gateway, MinIO, AWS and others.

A PUT and the completion of a multipart upload are atomic there, so nothing is written under a temporary key.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from botocore.exceptions import ClientError

from shared.errors import Unavailable
from shared.storage.blocks import feed, measured
from shared.storage.keys import check_expiry, check_key, check_prefix, check_range, is_key
from shared.storage.parts import (
    MAX_PARTS,
    bare_etag,
    check_number,
    check_part_bytes,
    check_whole,
    match_parts,
)
from shared.storage.port import (
    BUCKETS,
    PART_BYTES,
    WHOLE,
    Bucket,
    ObjectNotFound,
    ObjectRef,
    Part,
    Storage,
    UploadNotFound,
)
from shared.storage.s3_errors import s3_errors
from shared.storage.signing import attachment

SINGLE_PUT_BYTES = 8 * PART_BYTES
"""Larger objects are sent in parts, so that a lost connection costs one part."""
SINGLE_COPY_BYTES = 5 << 30
"""S3 copies no more in one request."""
SHA256 = "sha256"
"""Name of the user metadata that holds the hash."""


class S3Storage(Storage):
    """The S3 adapter. `client` is a boto3 S3 client, which is thread-safe.

    An object that came in by multipart upload, or past us, has no known hash until somebody reads it.
    """

    def __init__(
        self,
        client: Any,
        bucket_prefix: str,
        work_dir: Path | None = None,
        copy_bytes: int = SINGLE_COPY_BYTES,
    ) -> None:
        """Objects that are needed as files come into `work_dir`, or the system's temporary folder.

        copy_bytes: larger objects are copied in parts.
        """
        self._client = client
        self._prefix = bucket_prefix
        self._work_dir = work_dir
        self._copy_bytes = copy_bytes

    def put(
        self, bucket: Bucket, key: str, data: bytes | IO[bytes], media_type: str | None = None
    ) -> ObjectRef:
        # Metadata goes ahead of the bytes, so the hash must be known first: the stream is read twice.
        with measured(data) as (stream, size, sha256):
            extra = {"Metadata": {SHA256: sha256}, **_content_type(media_type)}
            send = self._put_whole if size <= SINGLE_PUT_BYTES else self._put_in_parts
            version = send(self._address(bucket, key), stream, size, extra)
        return ObjectRef(bucket=bucket, key=key, version=version, size=size, sha256=sha256)

    def head(self, bucket: Bucket, key: str) -> ObjectRef:
        with s3_errors():
            answer = self._client.head_object(**self._address(bucket, key))
        return ObjectRef(
            bucket=bucket,
            key=key,
            version=_version(answer),
            size=answer["ContentLength"],
            sha256=answer["Metadata"].get(SHA256),
            etag=bare_etag(answer["ETag"]),
            modified=answer["LastModified"],
        )

    def open(self, bucket: Bucket, key: str) -> IO[bytes]:
        with s3_errors():
            answer = self._client.get_object(**self._address(bucket, key))
        return io.BufferedReader(_Body(answer["Body"]), buffer_size=256 * 1024)

    def read_range(self, bucket: Bucket, key: str, start: int, length: int) -> bytes:
        check_range(start, length)
        if length == 0:
            self.head(bucket, key)
            return b""
        span = f"bytes={start}-{start + length - 1}"
        try:
            with s3_errors():
                body: bytes = self._client.get_object(**self._address(bucket, key), Range=span)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in ("InvalidRange", "416"):  # it begins at or past the end
                return b""
            raise
        return body

    def list_objects(self, bucket: Bucket, prefix: str = "") -> Iterator[ObjectRef]:
        check_prefix(bucket, prefix)
        return self._listed(bucket, prefix)

    def delete(self, bucket: Bucket, key: str) -> None:
        with s3_errors():
            self._client.delete_object(**self._address(bucket, key))

    def copy(self, source_bucket: Bucket, source_key: str, bucket: Bucket, key: str) -> ObjectRef:
        source, target = self._address(source_bucket, source_key), self._address(bucket, key)
        with s3_errors():
            found = self._client.head_object(**source)
        size, sha256 = found["ContentLength"], found["Metadata"].get(SHA256)
        if source == target:  # S3 refuses that
            version = _version(found)
        elif size <= self._copy_bytes:
            with s3_errors():
                version = _version(self._client.copy_object(**target, CopySource=source))
        else:
            version = self._copy_in_parts(source, target, found)
        return ObjectRef(bucket=bucket, key=key, version=version, size=size, sha256=sha256)

    @contextmanager
    def local_path(self, bucket: Bucket, key: str, name: str = WHOLE) -> Iterator[Path]:
        with TemporaryDirectory(prefix="hounsfield-", dir=self._work_dir) as folder:
            path = Path(folder) / name
            with self.open(bucket, key) as stream, path.open("xb") as file:
                feed(stream, file.write)
            yield path

    def start_multipart(
        self, bucket: Bucket, key: str, media_type: str | None = None, part_bytes: int = PART_BYTES
    ) -> str:
        check_part_bytes(part_bytes)
        with s3_errors():
            answer = self._client.create_multipart_upload(
                **self._address(bucket, key), **_content_type(media_type)
            )
        return str(answer["UploadId"])

    def sign_part(self, bucket: Bucket, key: str, upload_id: str, number: int, expires: timedelta) -> str:
        check_number(number)
        return self._signed("upload_part", expires, bucket, key, UploadId=upload_id, PartNumber=number)

    def list_multipart(self, bucket: Bucket, prefix: str = "") -> Iterator[tuple[str, str]]:
        check_prefix(bucket, prefix)
        for found in self._found("list_multipart_uploads", "Uploads", bucket, prefix):
            yield found["Key"], found["UploadId"]

    def list_parts(self, bucket: Bucket, key: str, upload_id: str) -> list[Part]:
        pages = self._client.get_paginator("list_parts").paginate(
            **self._address(bucket, key), UploadId=upload_id
        )
        with s3_errors(of_upload=True):
            return [
                Part(part["PartNumber"], bare_etag(part["ETag"]), part["Size"])
                for page in pages
                for part in page.get("Parts", [])
            ]

    def complete_multipart(self, bucket: Bucket, key: str, upload_id: str, parts: list[Part]) -> ObjectRef:
        chosen = match_parts(parts, self.list_parts(bucket, key, upload_id))
        check_whole(chosen)
        version = self._complete(self._address(bucket, key), upload_id, chosen)
        return ObjectRef(bucket=bucket, key=key, version=version, size=sum(part.size for part in chosen))

    def abort_multipart(self, bucket: Bucket, key: str, upload_id: str) -> None:
        try:
            with s3_errors(of_upload=True):
                self._client.abort_multipart_upload(**self._address(bucket, key), UploadId=upload_id)
        except UploadNotFound:
            return

    def sign_get(self, bucket: Bucket, key: str, expires: timedelta, filename: str | None = None) -> str:
        named = {} if filename is None else {"ResponseContentDisposition": attachment(filename)}
        return self._signed("get_object", expires, bucket, key, **named)

    def check(self) -> None:
        missing = [bucket for bucket in BUCKETS if not self._has(bucket)]
        if missing:
            raise Unavailable(f"The object store has no bucket {', '.join(map(self._name, missing))}.")

    def ensure_buckets(self, browser_origins: Sequence[str] = ()) -> None:
        """Create the buckets that are missing; let pages of these origins read and upload by signed URLs."""
        for bucket in BUCKETS:
            if not self._has(bucket):
                self._create(bucket)
            if browser_origins:
                self._allow(bucket, browser_origins)

    def _put_whole(
        self, address: dict[str, str], stream: IO[bytes], size: int, extra: dict[str, Any]
    ) -> str | None:
        with s3_errors():
            return _version(self._client.put_object(**address, Body=stream, ContentLength=size, **extra))

    def _put_in_parts(
        self, address: dict[str, str], stream: IO[bytes], size: int, extra: dict[str, Any]
    ) -> str | None:
        """Send parts one after another. boto3's own `upload_fileobj` does not tell which version it wrote."""
        part_bytes = max(PART_BYTES, -(-size // MAX_PARTS))

        def send(upload_id: str) -> Iterator[Part]:
            blocks = iter(lambda: stream.read(part_bytes), b"")
            for number, block in enumerate(blocks, 1):
                yield self._send_part(address, upload_id, number, block)

        return self._in_parts(address, extra, send)

    def _copy_in_parts(
        self, source: dict[str, str], target: dict[str, str], found: dict[str, Any]
    ) -> str | None:
        """Have the store copy part by part what is too large for one request."""
        size = found["ContentLength"]
        part_bytes = max(self._copy_bytes // 5, PART_BYTES, -(-size // MAX_PARTS))

        def send(upload_id: str) -> Iterator[Part]:
            for number, start in enumerate(range(0, size, part_bytes), 1):
                end = min(start + part_bytes, size)
                with s3_errors():
                    answer = self._client.upload_part_copy(
                        **target,
                        UploadId=upload_id,
                        PartNumber=number,
                        CopySource=source,
                        CopySourceRange=f"bytes={start}-{end - 1}",
                        CopySourceIfMatch=found["ETag"],
                    )
                yield Part(number, bare_etag(answer["CopyPartResult"]["ETag"]), end - start)

        kept = {"Metadata": found["Metadata"], **_content_type(found.get("ContentType"))}
        return self._in_parts(target, kept, send)

    def _in_parts(
        self, address: dict[str, str], extra: dict[str, Any], send: Callable[[str], Iterator[Part]]
    ) -> str | None:
        """An upload of the parts that `send` sends, aborted where it fails."""
        with s3_errors():
            upload_id = self._client.create_multipart_upload(**address, **extra)["UploadId"]
        with ExitStack() as on_failure:
            on_failure.callback(self._client.abort_multipart_upload, **address, UploadId=upload_id)
            version = self._complete(address, upload_id, list(send(upload_id)))
            on_failure.pop_all()
        return version

    def _send_part(self, address: dict[str, str], upload_id: str, number: int, block: bytes) -> Part:
        with s3_errors(of_upload=True):
            answer = self._client.upload_part(**address, UploadId=upload_id, PartNumber=number, Body=block)
        return Part(number, bare_etag(answer["ETag"]), len(block))

    def _complete(self, address: dict[str, str], upload_id: str, parts: list[Part]) -> str | None:
        named = [{"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in parts]
        with s3_errors(of_upload=True):
            return _version(
                self._client.complete_multipart_upload(
                    **address, UploadId=upload_id, MultipartUpload={"Parts": named}
                )
            )

    def _listed(self, bucket: Bucket, prefix: str) -> Iterator[ObjectRef]:
        for found in self._found("list_objects_v2", "Contents", bucket, prefix):
            yield ObjectRef(
                bucket=bucket,
                key=found["Key"],
                size=found["Size"],
                etag=bare_etag(found["ETag"]),
                modified=found["LastModified"],
            )

    def _found(self, listing: str, field: str, bucket: Bucket, prefix: str) -> Iterator[dict[str, Any]]:
        """What a listing has under `field` on all its pages, of keys that we could have written."""
        pages = self._client.get_paginator(listing).paginate(Bucket=self._name(bucket), Prefix=prefix)
        with s3_errors():
            for page in pages:
                yield from (found for found in page.get(field, []) if is_key(found["Key"]))

    def _signed(self, action: str, expires: timedelta, bucket: Bucket, key: str, **parameters: object) -> str:
        return str(
            self._client.generate_presigned_url(
                action, Params=self._address(bucket, key) | parameters, ExpiresIn=check_expiry(expires)
            )
        )

    def _has(self, bucket: Bucket) -> bool:
        try:
            with s3_errors():
                self._client.head_bucket(Bucket=self._name(bucket))
        except ObjectNotFound:
            return False
        return True

    def _create(self, bucket: Bucket) -> None:
        with (
            s3_errors(),
            suppress(self._client.exceptions.BucketAlreadyOwnedByYou),
        ):  # by another of us, just now
            self._client.create_bucket(Bucket=self._name(bucket), **self._location())

    def _allow(self, bucket: Bucket, origins: Sequence[str]) -> None:
        rules = {"CORSRules": [_cors_rule(origins)]}
        with s3_errors():
            self._client.put_bucket_cors(Bucket=self._name(bucket), CORSConfiguration=rules)

    def _location(self) -> dict[str, Any]:
        """AWS wants the region spelled out, but for its first; other services know their own place."""
        region = self._client.meta.region_name
        if region == "us-east-1" or not self._client.meta.endpoint_url.endswith(".amazonaws.com"):
            return {}
        return {"CreateBucketConfiguration": {"LocationConstraint": region}}

    def _address(self, bucket: Bucket, key: str) -> dict[str, str]:
        check_key(bucket, key)
        return {"Bucket": self._name(bucket), "Key": key}

    def _name(self, bucket: Bucket) -> str:
        return self._prefix + bucket


class _Body(io.RawIOBase):
    """A response body as a raw stream whose errors are the port's."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with s3_errors():
            block: bytes = self._body.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._body.close()
        super().close()


def _content_type(media_type: str | None) -> dict[str, str]:
    return {} if media_type is None else {"ContentType": media_type}


def _version(answer: dict[str, Any]) -> str | None:
    """The version id, in a bucket that keeps versions."""
    version = answer.get("VersionId")
    return None if version in (None, "null") else str(version)


def _cors_rule(origins: Sequence[str]) -> dict[str, list[str]]:
    return {
        "AllowedOrigins": list(origins),
        "AllowedMethods": ["GET", "HEAD", "PUT"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"],  # completing an upload needs it
    }
