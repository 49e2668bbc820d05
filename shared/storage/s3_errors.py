"""What S3 answers, as the errors of the port."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as ConnectionFailed

from shared.errors import Conflict, HounsfieldError, TooLarge, Unavailable
from shared.storage.port import ObjectNotFound, PartMismatch, UploadNotFound

OUTCOMES: dict[str, tuple[type[HounsfieldError], str]] = {
    "404": (ObjectNotFound, "There is no object of that key."),
    "NoSuchKey": (ObjectNotFound, "There is no object of that key."),
    "NoSuchUpload": (UploadNotFound, "There is no such upload: it never was, was completed, or was aborted."),
    "InvalidPart": (PartMismatch, "A part named at completion was not received, or with another ETag."),
    "InvalidPartOrder": (PartMismatch, "Parts are named in ascending order, each once."),
    "EntityTooSmall": (PartMismatch, "Every part but the last has at least 5 MiB."),
    "PreconditionFailed": (Conflict, "The object was replaced while it was being copied."),
    "EntityTooLarge": (TooLarge, "The object store takes no object or part of that size."),
}
REFUSALS = {
    "403",
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "NoSuchBucket",
    "QuotaExceeded",
}
"""The store is there, but is not set up for us: nothing that the caller could do otherwise."""
OVERLOADED = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException"}
TRANSPORT: tuple[type[BotoCoreError], ...] = (
    ConnectionFailed,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
)


@contextmanager
def s3_errors(of_upload: bool = False) -> Iterator[None]:
    """Turn botocore's errors into the port's; what only a bug of ours explains goes through as it is.

    of_upload: the request was about a multipart upload, where Ceph says NoSuchKey for S3's NoSuchUpload.
    """
    try:
        yield
    except ClientError as error:
        outcome = _outcome(error, of_upload)
        if outcome is None:
            raise
        raise outcome from error
    except TRANSPORT as error:
        raise Unavailable(f"The object store does not answer ({type(error).__name__}).") from error


def _outcome(error: ClientError, of_upload: bool) -> HounsfieldError | None:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if of_upload and code in ("NoSuchKey", "404"):
        code = "NoSuchUpload"
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in OUTCOMES:
        kind, detail = OUTCOMES[code]
        return kind(detail)
    if code in REFUSALS | OVERLOADED or status >= 500:
        return Unavailable(f"The object store refuses ({code}).")
    return None
