"""What stands for patients, UIDs and dates: derived from a secret, so that one upload fits the next without any list.

All are keyed by the tenant too: two tenants that hold the same image cannot tell so from what we keep of it.
"""

import hmac
from collections.abc import Callable
from typing import Final
from uuid import UUID

from pydicom.config import IGNORE  # else a UID that is none would be logged
from pydicom.uid import UID

_PAYLOAD_BYTES: Final = 10
_CHECK_BYTES: Final = 6
_ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
_LEAST_DAYS: Final = 366
_MOST_DAYS: Final = 3653
"""Ten years."""


class Pseudonyms:
    """UIDs and date shifts of one tenant. secret: the deployment's secret for this purpose, 32 bytes."""

    def __init__(self, secret: bytes, tenant: UUID) -> None:
        if len(secret) < 32:
            raise ValueError(f"the secret has at least 32 bytes, not {len(secret)}")
        self._uid, self._check, self._date, self._patient = (
            _keyed(hmac.digest(secret, purpose + tenant.bytes, "sha256"))
            for purpose in (b"uid", b"own", b"date", b"patient")
        )

    def uid(self, uid: str) -> str:
        """What stands for an instance's UID: 2.25.<UUID version 8>. UIDs that DICOM defines, and those that this
        made, stay.

        74 bits are of the original, 48 tell our own from others': so cleaning twice changes nothing.
        """
        if not uid or UID(uid, IGNORE).type or self.made(uid):
            return uid
        payload = bytearray(self._uid(uid.encode("utf-8", "surrogateescape"))[:_PAYLOAD_BYTES])
        payload[6] = payload[6] & 0x0F | 0x80  # version 8 of RFC 9562
        payload[8] = payload[8] & 0x3F | 0x80
        return f"2.25.{int.from_bytes(payload + self._check(bytes(payload))[:_CHECK_BYTES])}"

    def made(self, uid: str) -> bool:
        """Whether `uid` is one that this made."""
        number = uid.removeprefix("2.25.")
        if number == uid or not (number.isascii() and number.isdecimal()) or len(number) > 39:
            return False
        value = int(number)
        if value >> 128:
            return False
        raw = value.to_bytes(_PAYLOAD_BYTES + _CHECK_BYTES)
        return hmac.compare_digest(self._check(raw[:_PAYLOAD_BYTES])[:_CHECK_BYTES], raw[_PAYLOAD_BYTES:])

    def patient(self, patient_id: str, issuer: str) -> str:
        """What stands for a Patient ID: `PAT-` and twelve letters and digits, readable aloud (58 bits).

        issuer: who gave the ID, where the images say so; one ID may be two people's in two hospitals.
        """
        person = f"{issuer.strip()}\\{patient_id.strip()}".encode("utf-8", "surrogateescape")
        number = int.from_bytes(self._patient(person)[:16])
        letters = (_ALPHABET[number // len(_ALPHABET) ** place % len(_ALPHABET)] for place in range(12))
        return "PAT-" + "".join(letters)

    def days(self, patient_id: str) -> int:
        """By how many days a patient's dates are moved: one to ten years back, the same for each of their studies."""
        number = int.from_bytes(self._date(patient_id.strip().encode("utf-8", "surrogateescape"))[:8])
        return -(_LEAST_DAYS + number % (_MOST_DAYS - _LEAST_DAYS + 1))


def _keyed(key: bytes) -> Callable[[bytes], bytes]:
    return lambda value: hmac.digest(key, value, "sha256")
