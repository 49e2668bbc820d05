"""The regular files of a zip, in its directory's order."""

import lzma
import stat
import zlib
from bz2 import BZ2Decompressor
from collections.abc import Iterator
from typing import IO

from shared.archives.decoders import INPUT_BYTES, OUTPUT_BYTES, XZ_MEMORY, Decoder, inflate, step
from shared.archives.errors import BadArchive, UnsupportedArchive
from shared.archives.limits import Ledger
from shared.archives.member import Member
from shared.archives.names import Names, is_metadata
from shared.archives.outbox import Outbox
from shared.archives.zip_directory import Entry, read_directory

_STORED, _DEFLATED, _BZIP2, _LZMA = 0, 8, 12, 14
_READABLE = (_STORED, _DEFLATED, _BZIP2, _LZMA)
_UNREADABLE = {9: "Deflate64 (Windows uses it for files over 2 GiB)", 93: "Zstandard", 95: "xz", 98: "PPMd"}


def unpack_zip(file: IO[bytes], out: Outbox, ledger: Ledger) -> Iterator[tuple[int, Member]]:
    """Each file that was written, with its number in the directory; all are checked before the first is written."""
    names = Names(ledger.limits)
    chosen = [
        (entry, data, name)
        for entry, data in read_directory(file, ledger)
        if (name := _checked(entry, names, ledger)) is not None
    ]
    for entry, data, name in chosen:
        file.seek(data)
        yield entry.number, Member(name, out.write(_content(file, entry)), entry.size)


def _checked(entry: Entry, names: Names, ledger: Ledger) -> str | None:
    """The name of a harmless file; None for what is passed over."""
    ledger.count_member()
    number, raw = entry.number, entry.name
    name = names.check(raw, number)
    kind = stat.S_IFMT(entry.mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if kind == stat.S_IFLNK else "a device, FIFO or socket"
        raise BadArchive(f"Member {number} is {what}; pack files and folders only.")
    if raw.endswith("/") or kind == stat.S_IFDIR:
        if entry.size:
            raise BadArchive(f"Member {number} is a folder with content of its own; pack the zip anew.")
        return None
    if not name:
        raise BadArchive(f"Member {number} is a file with the name of a folder; pack the zip anew.")
    if entry.mode & (stat.S_ISUID | stat.S_ISGID):
        raise BadArchive(f"Member {number} has a setuid or setgid bit; clear it (chmod ug-s) and pack anew.")
    _check_method(entry)
    ledger.limits.check_ratio(entry.size, entry.packed, f"Member {number}")
    ledger.admit(entry.size, number)
    if is_metadata(name):
        return None
    names.claim(name, number)
    return name


def _check_method(entry: Entry) -> None:
    if entry.method not in _READABLE:
        method = _UNREADABLE.get(entry.method, f"an unknown method ({entry.method})")
        raise UnsupportedArchive(
            f"Member {entry.number} is compressed by {method}; use Deflate (the usual setting), or send a .tar.gz."
        )
    if entry.method == _STORED and entry.size != entry.packed:
        raise BadArchive(f"Member {entry.number} is stored as it is, yet has two sizes; pack the zip anew.")


def _content(file: IO[bytes], entry: Entry) -> Iterator[bytes]:
    """The member's bytes, as many as the directory says, its checksum verified."""
    left, crc = entry.size, 0
    for block in _stored(file, entry.packed) if entry.method == _STORED else _unpacked(file, entry):
        left -= len(block)
        if left < 0:
            break
        crc = zlib.crc32(block, crc)
        yield block
    if left or crc != entry.crc:
        raise BadArchive(
            f"The content of member {entry.number} does not fit its size and checksum; send it again."
        )


def _stored(file: IO[bytes], left: int) -> Iterator[bytes]:
    while left and (block := file.read(min(OUTPUT_BYTES, left))):
        left -= len(block)
        yield block


def _unpacked(file: IO[bytes], entry: Entry) -> Iterator[bytes]:
    left, what = entry.packed, f"member {entry.number}"
    if entry.method == _LZMA:
        header = file.read(9)
        left -= 9
        decoder = _lzma_decoder(header, left, what)
    else:
        decoder = BZ2Decompressor() if entry.method == _BZIP2 else inflate()
    data = b""
    while not decoder.eof:
        if decoder.needs_input:
            data = file.read(min(INPUT_BYTES, left))
            left -= len(data)
            if not data:
                break
        if block := step(decoder, data, what):
            yield block
        data = b""
    ended = decoder.eof or (entry.method == _LZMA and not entry.has_end_mark)
    if left or decoder.unused_data or not ended:
        raise BadArchive(
            f"The compressed data of member {entry.number} ends elsewhere than it should; send it again."
        )


def _lzma_decoder(header: bytes, left: int, what: str) -> Decoder:
    """APPNOTE 5.8.8: two bytes of version, two of length (5), the packed settings, the size of the dictionary."""
    settings = header[4] if len(header) == 9 else 255
    memory = int.from_bytes(header[5:9], "little")
    if left < 0 or header[2:4] != b"\5\0" or settings >= 225 or settings % 9 + settings // 9 % 5 > 4:
        raise BadArchive(f"The LZMA settings of {what} are damaged; pack the zip anew.")
    if memory > XZ_MEMORY:
        raise UnsupportedArchive(
            f"Unpacking {what} takes over {XZ_MEMORY // 2**20} MiB of memory; use Deflate."
        )
    return lzma.LZMADecompressor(
        lzma.FORMAT_RAW,
        filters=[
            {
                "id": lzma.FILTER_LZMA1,
                "lc": settings % 9,
                "lp": settings // 9 % 5,
                "pb": settings // 45,
                "dict_size": max(memory, 4096),
            }
        ],
    )
