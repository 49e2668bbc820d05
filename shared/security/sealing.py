"""Patient names at rest: AES-256-GCM, bound to the study that they belong to.

A sealed name is `version (1) ‖ key id (4) ‖ nonce (12) ‖ ciphertext ‖ tag (16)`; sizes in bytes. The version
and key id are authenticated too; they say how to open a name once keys or format have changed.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.runtime.services import Services
from shared.security.keys import key_store

VERSION = 1
KEY_ID_BYTES = 4
NONCE_BYTES = 12
"""Random 96-bit nonces are good for 2**32 names under one key (NIST SP 800-38D §8.3)."""


class BrokenSeal(ValueError):
    """These bytes were not sealed with this key for this context, or were changed since."""


class NameSealer:
    """Seals and opens names with one key."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise ValueError(f"the secret has 32 bytes, not {len(secret)}")
        self._cipher = AESGCM(secret)
        self._header = bytes([VERSION]) + _key_id(secret)

    def seal(self, text: str, context: bytes) -> bytes:
        """Encrypt `text`; it opens with the same `context` (the study id) only."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return self._header + nonce + self._cipher.encrypt(nonce, text.encode(), self._header + context)

    def open(self, sealed: bytes, context: bytes) -> str:
        """The text. Raises BrokenSeal."""
        header, rest = sealed[: len(self._header)], sealed[len(self._header) :]
        if header != self._header:
            raise BrokenSeal("sealed in another format or with another key")
        try:
            nonce, ciphertext = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
            return self._cipher.decrypt(nonce, ciphertext, header + context).decode()
        except (InvalidTag, ValueError):  # ValueError: too short to hold a nonce
            raise BrokenSeal("sealed for another context, or changed since") from None


def name_sealer(services: Services) -> NameSealer:
    """The process's sealer of patient names (`services.once(name_sealer)`)."""
    return NameSealer(services.once(key_store).secret("patient-names"))


def _key_id(secret: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"hounsfield/key-id" + secret)
    return digest.finalize()[:KEY_ID_BYTES]
