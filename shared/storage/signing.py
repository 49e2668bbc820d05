"""Signed URLs of the folder store: what S3 does with signature v4, done with one HMAC.

The upload function serves them: it verifies the signature, then reads the object or takes the part.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, cast
from urllib.parse import quote, urlencode

from shared.errors import Forbidden
from shared.storage.keys import check_expiry
from shared.storage.port import Bucket

Operation = Literal["get", "part"]
METHODS: dict[str, Operation] = {"GET": "get", "PUT": "part"}
Secret = bytes | Callable[[], Sequence[bytes]]
"""What URLs are signed with: one secret, or the secrets of the moment: the first signs, any of them verifies."""
_DOMAIN = b"hounsfield signed storage URL v1\n"
"""Keeps these signatures apart from others made with the same secret."""


@dataclass(frozen=True)
class Grant:
    """What one signed URL allows."""

    op: Operation
    bucket: Bucket
    key: str
    filename: str | None = None
    """get: the name under which a browser saves the object."""
    upload_id: str = ""
    """part: the multipart upload."""
    number: int = 0
    """part: the part's number."""

    @property
    def method(self) -> str:
        """The one HTTP method that the URL may be used with."""
        return "GET" if self.op == "get" else "PUT"

    def parameters(self) -> dict[str, str]:
        """The query parameters that say what is allowed."""
        if self.op == "part":
            return {"op": "part", "upload": self.upload_id, "number": str(self.number)}
        return {"op": "get"} if self.filename is None else {"op": "get", "filename": self.filename}


class UrlSigner:
    """Signs grants into URL paths and verifies them again."""

    def __init__(self, secret: Secret, clock: Callable[[], float] = time.time) -> None:
        if not secret:
            raise ValueError("signed URLs need a secret that is not empty")
        self._secrets = secret if callable(secret) else lambda: (secret,)
        self._clock = clock

    def sign(self, grant: Grant, expires: timedelta) -> str:
        """Path and query of the URL, without scheme and host. Raises Invalid: no such lifetime."""
        parameters = grant.parameters() | {"expires": str(int(self._clock()) + check_expiry(expires))}
        newest = self._secrets()[0]
        parameters["signature"] = _signature(newest, grant.method, grant.bucket, grant.key, parameters)
        return f"/api/storage/{grant.bucket}/{quote(grant.key)}?{urlencode(parameters, quote_via=quote)}"

    def verify(self, method: str, bucket: str, key: str, query: Mapping[str, str]) -> Grant:
        """What the request may do; `key` and `query` are percent-decoded. Raises Forbidden."""
        signed = {name: value for name, value in query.items() if name != "signature"}
        given = query.get("signature", "").encode(errors="replace")
        # The signature is checked first and over everything: only what we signed ourselves is parsed.
        good = [_signature(secret, method, bucket, key, signed).encode() for secret in self._secrets()]
        if not any(hmac.compare_digest(given, one) for one in good):
            raise Forbidden("This link was altered, is incomplete, or is used with another HTTP method.")
        if self._clock() >= int(signed["expires"]):
            raise Forbidden("This link has expired; ask for a new one.")
        return Grant(
            op=METHODS[method],
            bucket=cast(Bucket, bucket),
            key=key,
            filename=signed.get("filename"),
            upload_id=signed.get("upload", ""),
            number=int(signed.get("number", 0)),
        )


def _signature(secret: bytes, method: str, bucket: str, key: str, parameters: Mapping[str, str]) -> str:
    signed = json.dumps([method, bucket, key, sorted(parameters.items())]).encode()
    return hmac.new(secret, _DOMAIN + signed, hashlib.sha256).hexdigest()


def attachment(filename: str) -> str:
    """A Content-Disposition value that saves the body as `filename` (RFC 6266, any Unicode)."""
    return f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
