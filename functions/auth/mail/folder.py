"""Mails as files, for one machine without a mail server."""

import os
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from functions.auth.mail.port import Mail, NotSent, as_message


class FolderMailer:
    """Writes each mail as an `.eml` file that only its owner reads, whole or not at all."""

    def __init__(self, folder: Path, sender: str) -> None:
        self._folder = folder
        self._sender = sender

    def send(self, mail: Mail) -> None:
        """The name of the file tells when, not to whom. Raises NotSent."""
        content = as_message(mail, self._sender).as_bytes()
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}.eml"
        temporary = self._folder / f".{name}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._folder / name)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise NotSent(f"the mail folder cannot be written: {error.strerror}", permanent=False) from None
