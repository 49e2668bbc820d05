"""Mails as files, for one machine without a mail server."""

import re
import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from functions.auth.mail.port import Mail, NotSent, as_message
from shared.files import unfinished, write_whole

_NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}-[0-9a-f]{8}\.eml")
"""What our mails are called; whatever else is in the folder is not ours."""


class FolderMailer:
    """Writes each mail as an `.eml` file that only its owner reads, whole or not at all."""

    def __init__(self, folder: Path, sender: str) -> None:
        self._folder = folder
        self._sender = sender

    def send(self, mail: Mail) -> None:
        """The name of the file tells when, not to whom. Raises NotSent."""
        content = as_message(mail, self._sender).as_bytes()
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}.eml"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(self._folder / name, content)
        except OSError as error:
            raise NotSent(f"the mail folder cannot be written: {error.strerror}", permanent=False) from None

    def clean(self, keep: timedelta) -> int:
        """Delete mails older than this: they hold addresses. Returns how many."""
        before, gone = (datetime.now(UTC) - keep).timestamp(), 0
        for file in self._folder.glob("*.eml*"):
            with suppress(OSError):  # somebody else may have deleted it; if not, there is another time
                ours = _NAME.fullmatch(unfinished(file.name) or file.name)
                if ours and file.stat().st_mtime < before:
                    file.unlink()
                    gone += 1
        return gone
