"""The regular files of a tar, in its order."""

import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from shared.archives.errors import BadArchive
from shared.archives.limits import MIB, Ledger
from shared.archives.member import Member
from shared.archives.names import Names, is_metadata
from shared.archives.outbox import Outbox
from shared.archives.source import Source
from shared.archives.tar_headers import TarHeader, padded, read_header
from shared.archives.tar_sparse import is_sparse, read_sparse_map

_MOST_PADDING = MIB  # behind the end marker; tapes were written in records of 10 KiB and up
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE)
_REFUSED = {
    tarfile.SYMTYPE: "a symbolic link; pack the files themselves (tar --dereference)",
    tarfile.LNKTYPE: "a hard link; pack each file by itself (tar --hard-dereference)",
    tarfile.CHRTYPE: "a character device; pack files only",
    tarfile.BLKTYPE: "a block device; pack files only",
    tarfile.FIFOTYPE: "a FIFO; pack files only",
}


def unpack_tar(source: Source, out: Outbox, ledger: Ledger) -> Iterator[tuple[int, Member]]:
    """Each file that was written, with its number among all files and folders of the archive."""
    names, number = Names(ledger.limits), 1
    while header := read_header(source, number):
        ledger.count_member()
        name = _checked(header, names, out, number)
        sparse = read_sparse_map(source, header, number) if is_sparse(header) else None
        size, stored = (sparse.size, sparse.stored) if sparse else (header.stored, header.stored)
        ledger.admit(size, number)
        if name is None:
            source.skip(stored)
        elif sparse:
            with out.file() as file:
                sparse.write(source, file)
            yield number, Member(name, Path(file.name), size)
        else:
            yield number, Member(name, out.write(source.pieces(stored)), size)
        source.skip(padded(stored) - stored)
        number += 1
    _check_end(source)


def _checked(header: TarHeader, names: Names, out: Outbox, number: int) -> str | None:
    """The name of a harmless file; None for what is passed over."""
    info = header.info
    if info.type not in _FILES and not info.isdir():
        kind = _REFUSED.get(info.type, "of an unusual type; pack files and folders only")
        raise BadArchive(f"Member {number} is {kind}.")
    name = names.check(header.name, number)
    if info.isdir():
        if header.stored:
            raise BadArchive(f"Member {number} is a folder with content of its own; pack the archive anew.")
        return None
    if header.name.endswith("/") or not name:
        raise BadArchive(f"Member {number} is a file with the name of a folder; pack the archive anew.")
    if info.mode & (stat.S_ISUID | stat.S_ISGID):
        raise BadArchive(f"Member {number} has a setuid or setgid bit; clear it (chmod ug-s) and pack anew.")
    try:
        tarfile.data_filter(info, str(out.folder))
    except (tarfile.FilterError, ValueError) as error:
        raise BadArchive(f"Member {number} would be written outside its folder; pack plain files.") from error
    if is_metadata(name):
        return None
    names.claim(name, number)
    return name


def _check_end(source: Source) -> None:
    """Behind the first empty block come empty blocks only."""
    left = _MOST_PADDING
    for piece in source.rest():
        left -= len(piece)
        if left < 0 or bytes(piece).strip(b"\0"):
            raise BadArchive("Other bytes follow the end of the tar; send each archive by itself.")
