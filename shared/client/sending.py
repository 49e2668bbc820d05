"""How something is sent, and what the caller is told meanwhile."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict


class StudyFields(TypedDict, total=False):
    """What may be said of a study when it is sent."""

    kind: str | None
    """ct, brain-mri, oct or slide; the server finds out where it is not said."""
    modalities: Sequence[str] | None
    """The sequence of each file, in order: t1, t1ce, t2, flair, or nothing."""
    patient_id: str | None
    """A pseudonym; generated when none is given."""
    patient_name: str | None
    """Kept encrypted."""
    scan_date: str | None
    """ISO 8601, such as 2026-01-31."""
    case_id: str | None
    name: str | None
    """What to call the study."""
    duplicate: bool
    """Make another study even if these very files are known."""


@dataclass(frozen=True)
class Progress:
    """How far the sending is, in bytes."""

    done: int
    total: int
    before: int
    """Of `done`, what an earlier run had sent already: it says nothing of the present rate."""


@dataclass(frozen=True)
class Sending:
    """How to send."""

    parallel: int = 4
    """Parts that are under way at once."""
    resume: bool = False
    """Go on with what an earlier run began."""
    hash_first: bool = False
    """Tell the server the SHA-256 before the first byte, not with the last: the file is read twice."""
    state_dir: Path | None = None
    """Where unfinished uploads are remembered; None is $XDG_STATE_HOME/hounsfield/uploads."""
    on_progress: Callable[[Progress], None] | None = None
    on_note: Callable[[str], None] | None = None
    """Told what was left out, and why something starts anew."""

    def note(self, text: str) -> None:
        """Tell the caller."""
        if self.on_note is not None:
            self.on_note(text)


class Meter:
    """Counts the bytes of everything that one call sends."""

    def __init__(self, total: int, sending: Sending) -> None:
        self._total = total
        self._done = 0
        self._before = 0
        self._tell = sending.on_progress

    def skip(self, size: int) -> None:
        """So much was there already."""
        self._before += size
        self.add(size)

    def add(self, size: int) -> None:
        """So much was sent; negative for what has to be sent again."""
        self._done += size
        if self._tell is not None:
            self._tell(Progress(self._done, self._total, self._before))
