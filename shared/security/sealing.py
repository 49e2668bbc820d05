"""Names of patients, and of their files, at rest: AES-256-GCM, bound to the study or file that they belong to.

A sealed name is `version (1) ‖ key id (4) ‖ nonce (12) ‖ ciphertext ‖ tag (16)`; sizes in bytes. The version
and key id are authenticated too; they say how to open a name once keys or format have changed.
"""

import secrets
from uuid import UUID

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.db.models import StudyFile
from shared.runtime.services import Services
from shared.security.keys import key_store
from shared.security.rings import SecretRing, secret_id

log = structlog.get_logger(__name__)

VERSION = 1
KEY_ID = slice(1, 5)
"""Where the key id is."""
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
        self._header = bytes([VERSION]) + bytes.fromhex(secret_id(secret))

    def seal(self, text: str, context: bytes) -> bytes:
        """Encrypt `text`; it opens with the same `context` (the id of the study or file) only."""
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


class NameRing:
    """Seals names with the newest key of a ring and opens them with whichever key they were sealed with."""

    def __init__(self, ring: SecretRing) -> None:
        self._ring = ring

    def seal(self, text: str, owner_id: UUID) -> bytes:
        """Encrypt the name of a study's patient, or of a file."""
        return NameSealer(self._ring.newest.secret).seal(text, owner_id.bytes)

    def open(self, sealed: bytes, owner_id: UUID) -> str:
        """The name. Raises BrokenSeal."""
        key_id = sealed[KEY_ID].hex()
        secret = self._ring.get(key_id)
        if secret is None:
            raise BrokenSeal(f"sealed with the key {key_id}, which is not in the ring")
        return NameSealer(secret).open(sealed, owner_id.bytes)

    def open_if_possible(self, sealed: bytes | None, study_id: UUID) -> str | None:
        """The name; None, and a warning in the log, where it cannot be opened: a study is worth showing without."""
        try:
            return None if sealed is None else self.open(sealed, study_id)
        except BrokenSeal as error:
            log.warning("a patient name cannot be opened", study_id=str(study_id), why=str(error))
            return None

    def filename(self, file: StudyFile) -> str:
        """What the sender called a file. Raises BrokenSeal."""
        if file.filename_sealed is None:
            return file.filename or ""
        return self.open(file.filename_sealed, file.id)

    def filename_if_possible(self, file: StudyFile) -> str:
        """The same; what it is called in storage, and a warning in the log, where that cannot be opened."""
        try:
            return self.filename(file)
        except BrokenSeal as error:
            log.warning("a file name cannot be opened", file_id=str(file.id), why=str(error))
            return file.key.rpartition("/")[2]


def name_ring(services: Services) -> NameRing:
    """The process's sealer of names (`services.once(name_ring)`)."""
    return NameRing(services.once(key_store).names)
