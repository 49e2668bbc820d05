"""What is remembered of an upload under way, so that another run can go on with it.

One small file an upload, readable by its owner only. It holds no token, and neither the name of the file nor its folder.
"""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.client.sources import Fingerprint, Source

KEPT_SECONDS = 14 * 86400
"""The server gives unfinished uploads up after two days, unless it is told otherwise."""


@dataclass(frozen=True)
class Remembered:
    """An upload that was begun."""

    server: str
    upload_id: str
    fingerprint: Fingerprint
    sha256: str | None = None
    """Of the whole file, hex, once it is known."""


def default_folder() -> Path:
    """$XDG_STATE_HOME/hounsfield/uploads."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "hounsfield" / "uploads"


class Memory:
    """The folder of what is remembered."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or default_folder()

    def recall(self, server: str, source: Source, fields: Mapping[str, object]) -> Remembered | None:
        """The upload of that path with these fields to that server, if one was begun."""
        try:
            content = json.loads(self._path(server, source, fields).read_bytes())
            content["fingerprint"] = Fingerprint(**content["fingerprint"])
            return Remembered(**content)
        except OSError:
            return None
        except (ValueError, TypeError, KeyError):
            return None  # of another version, or spoilt: the upload starts anew

    def keep(self, source: Source, fields: Mapping[str, object], remembered: Remembered) -> None:
        """Write it, whole or not at all. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(remembered.server, source, fields)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(asdict(remembered), file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        self._forget_old()

    def forget(self, server: str, source: Source, fields: Mapping[str, object]) -> None:
        """The upload became part of a study."""
        with suppress(OSError):  # what stays is forgotten when it is old
            self._path(server, source, fields).unlink()

    def _path(self, server: str, source: Source, fields: Mapping[str, object]) -> Path:
        what = json.dumps([server, str(source.path.resolve()), dict(fields)], sort_keys=True, default=str)
        return self._folder / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.json"

    def _forget_old(self) -> None:
        for path in self._folder.iterdir():
            if path.lstat().st_mtime < time.time() - KEPT_SECONDS:
                path.unlink(missing_ok=True)
