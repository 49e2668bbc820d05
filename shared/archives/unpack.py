"""Unpacking one archive, and those inside it, into numbered files."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from shared.archives.ahead import ahead
from shared.archives.decoders import decompressed, decompressed_head
from shared.archives.errors import ArchiveTooLarge, BadArchive, UnsupportedArchive
from shared.archives.formats import HEAD_BYTES, ArchiveFormat, archive_format, is_tar_header
from shared.archives.limits import ArchiveLimits, Ledger
from shared.archives.member import Member
from shared.archives.outbox import Outbox
from shared.archives.source import Source, within_ratio
from shared.archives.tar import unpack_tar
from shared.archives.zip_members import unpack_zip

BLOCK_BYTES = 2**20


Seen = Callable[[Path], object]
"""Gets each file as soon as it is written, while the next is still decompressed; some are archives themselves."""


def unpack(
    source: Path, folder: Path, limits: ArchiveLimits, seen: Seen = lambda _path: None
) -> list[Member]:
    """Write the regular files of an archive into an empty folder, in the archive's order; folders and what
    desktops add (`__MACOSX`, `._*`, `.DS_Store`, `Thumbs.db`) are passed over.

    A tar or zip inside is replaced by its files, as deep as the limits let it; a compressed file inside that is no tar
    (`.nii.gz`) stays as it is. Raises BadArchive, ArchiveTooLarge or UnsupportedArchive, or Unavailable when the disk
    is full; then nothing stays in the folder.
    """
    with Outbox(folder) as out:
        ledger = Ledger(limits, source.stat().st_size)
        return list(_members(source, out, ledger, seen, level=0))


def _members(path: Path, out: Outbox, ledger: Ledger, seen: Seen, level: int) -> Iterator[Member]:
    with path.open("rb") as file, ExitStack() as stack:
        found = []
        for number, member in _opened(file, out, ledger, stack):
            seen(member.path)
            found.append((number, member))
    for number, member in found:
        if kind := _archive_inside(member.path):
            yield from _inner(kind, number, member, out, ledger, seen, level + 1)
        else:
            yield member


def _opened(file: IO[bytes], out: Outbox, ledger: Ledger, stack: ExitStack) -> Iterator[tuple[int, Member]]:
    kind = archive_format(file.read(HEAD_BYTES))
    size = file.seek(0, 2)
    file.seek(0)
    if kind is None:
        raise UnsupportedArchive("This is no archive; send a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file.")
    _check_readable(kind, "This")
    if kind is ArchiveFormat.ZIP:
        return unpack_zip(file, out, ledger)
    if kind is ArchiveFormat.TAR:
        return unpack_tar(Source(iter(lambda: file.read(BLOCK_BYTES), b"")), out, ledger)
    blocks = stack.enter_context(ahead(decompressed(file, kind)))
    source = Source(within_ratio(blocks, size, ledger.limits))
    if is_tar_header(source.peek(HEAD_BYTES)):
        return unpack_tar(source, out, ledger)
    return _single(source, out, ledger)


def _single(source: Source, out: Outbox, ledger: Ledger) -> Iterator[tuple[int, Member]]:
    """The one file that a compressed stream holds."""
    ledger.count_member()
    size = 0

    def admitted() -> Iterator[memoryview]:
        nonlocal size
        for piece in source.rest():
            size += len(piece)
            ledger.check_member(size, 1)
            ledger.spend(len(piece))
            yield piece

    path = out.write(admitted())
    yield 1, Member("", path, size)


def _archive_inside(path: Path) -> ArchiveFormat | None:
    """The format of a member that is an archive itself."""
    with path.open("rb") as file:
        kind = archive_format(file.read(HEAD_BYTES))
    if kind is None or not kind.is_compressed_stream:
        return kind
    try:
        return kind if is_tar_header(decompressed_head(path, kind, HEAD_BYTES)) else None
    except (BadArchive, UnsupportedArchive):  # a damaged file, for its reader to refuse
        return None


def _inner(
    kind: ArchiveFormat, number: int, member: Member, out: Outbox, ledger: Ledger, seen: Seen, level: int
) -> Iterator[Member]:
    """The files of an archive inside, in its place."""
    _check_readable(kind, f"Member {number}")
    if level > ledger.limits.depth:
        raise BadArchive(
            f"Member {number} is an archive; archives inside an archive are opened {ledger.limits.depth} deep. "
            "Unpack it and send the files."
        )
    try:
        found = list(_members(member.path, out, ledger, seen, level))
    except (BadArchive, ArchiveTooLarge, UnsupportedArchive) as error:
        raise type(error)(f"In member {number}, an archive itself: {error.detail}") from error
    out.remove(member.path)
    for inner in found:
        yield Member(f"{member.name}/{inner.name}".rstrip("/"), inner.path, inner.size)


def _check_readable(kind: ArchiveFormat, what: str) -> None:
    if not kind.is_readable:
        raise UnsupportedArchive(f"{what} is a {kind} archive; send a .zip, .tar.gz or .tar file instead.")
