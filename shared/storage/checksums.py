"""Checksums that a sender may give with a part, as S3 takes them."""

import base64
import binascii
import hashlib
from collections.abc import Mapping

from shared.errors import BadRequest

ALGORITHMS = {"content-md5": "md5", "x-amz-checksum-sha256": "sha256"}
"""Header, by its lower-case name, and what it holds in base64. Others that S3 knows are not looked at."""


class Checksums:
    """What the headers of a request say of its body, and what came."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        """Raises BadRequest for a header that holds no such checksum."""
        self._wanted = {name: _decoded(name, headers[name]) for name in ALGORITHMS if name in headers}
        self._digests = {name: hashlib.new(ALGORITHMS[name], usedforsecurity=False) for name in self._wanted}

    def update(self, block: bytes | memoryview) -> None:
        """Take in the next bytes of the body."""
        for digest in self._digests.values():
            digest.update(block)

    def check(self) -> None:
        """Raises BadRequest where the body is another than was announced."""
        for name, digest in self._digests.items():
            if digest.digest() != self._wanted[name]:
                raise BadRequest(f"the bytes that came do not have the checksum of {name}; send them again")


def _decoded(name: str, value: str) -> bytes:
    size = hashlib.new(ALGORITHMS[name], usedforsecurity=False).digest_size
    try:
        decoded = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if len(decoded) != size:
        raise BadRequest(f"{name} is the checksum's {size} bytes in base64")
    return decoded
