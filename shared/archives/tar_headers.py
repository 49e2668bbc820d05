"""The headers of one tar member: ustar, GNU and pax, each bounded, whatever size it claims.

`tarfile` parses the 512 bytes of a header; what may be chained before it (long names, pax records) is read here, since
`tarfile` takes an extension of any size into memory and follows a chain of them by recursion.
"""

import re
import tarfile
from dataclasses import dataclass

from shared.archives.errors import BadArchive
from shared.archives.source import Source

BLOCK = tarfile.BLOCKSIZE
MOST_EXTENSION_BYTES = 2**20
_MOST_EXTENSIONS = 8  # before one member; tools write a global header, a pax header, two long names
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_OF_ONE_MEMBER = ("path", "linkpath", "size", "GNU.sparse.")
_SIZE = re.compile(rb" *[0-7]*[ \0]*|[\x80\xff].*", re.DOTALL)  # tarfile's int() also takes "-1" and "0o7"

_RECORD = re.compile(rb"([1-9][0-9]{0,6}) ([^=\n]+)=")


@dataclass(frozen=True)
class TarHeader:
    """A member before its data.

    block: the header itself. name: as the archive has it. stored: bytes that follow. records: its pax records.
    """

    info: tarfile.TarInfo
    block: bytes
    name: str
    stored: int
    records: dict[str, str]


def read_header(source: Source, number: int) -> TarHeader | None:
    """The header of the member `number`; None at the end marker, of which one empty block is taken."""
    records: dict[str, str] = {}
    announced = False
    for _ in range(_MOST_EXTENSIONS + 1):
        block = source.take(BLOCK)
        if block.count(0) == BLOCK and not announced:
            return None
        info = _parsed(block, number)
        announced |= info.type != tarfile.XGLTYPE
        if info.type in (*_PAX, tarfile.XGLTYPE):
            found = _pax_records(_extension(source, info.size, number), number)
            if info.type in _PAX:
                records |= found
            elif any(key.startswith(_OF_ONE_MEMBER) for key in found):
                raise BadArchive(
                    "The archive names or sizes all members at once, in a global header; pack it anew."
                )
        elif info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            text = _extension(source, info.size, number).split(b"\0")[0]
            records["path" if info.type == tarfile.GNUTYPE_LONGNAME else "linkpath"] = _text(text, number)
        else:
            return _joined(info, block, records, number)
    raise BadArchive(f"Very many extension headers precede member {number}; pack it with usual settings.")


def padded(size: int) -> int:
    """The size rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def number_of(text: str, number: int) -> int:
    """A count of bytes in a pax record or a sparse map."""
    if not re.fullmatch("[0-9]{1,19}", text, re.ASCII):
        raise BadArchive(f"A size in the headers of member {number} is no number; the archive is damaged.")
    return int(text)


def _parsed(block: bytes, number: int) -> tarfile.TarInfo:
    if not _SIZE.fullmatch(block[124:136]):
        raise BadArchive(f"The size of member {number} is no number; the archive is damaged.")
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise BadArchive(
            f"The header of member {number} is damaged; pack and send the archive again."
        ) from error
    if info.size < 0:
        raise BadArchive(f"The size of member {number} is negative; the archive is damaged.")
    return info


def _joined(info: tarfile.TarInfo, block: bytes, records: dict[str, str], number: int) -> TarHeader:
    name = records.get("GNU.sparse.name", records.get("path", info.name))
    if "size" in records:
        info.size = number_of(records["size"], number)
    info.name = name
    return TarHeader(info, block, name, info.size, records)


def _extension(source: Source, size: int, number: int) -> bytes:
    if size > MOST_EXTENSION_BYTES:
        raise BadArchive(
            f"An extension header of member {number} says that it has {size:,} bytes; "
            f"the limit is {MOST_EXTENSION_BYTES:,}."
        )
    return source.take(padded(size))[:size]


def _pax_records(data: bytes, number: int) -> dict[str, str]:
    """The records `length key=value\\n`; values of keys that are not used here may be anything and are left out."""
    records: dict[str, str] = {}
    position = 0
    while position < len(data):
        found = _RECORD.match(data, position)
        end = position + int(found[1]) if found else 0
        if found is None or not found.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise BadArchive(
                f"The extended header of member {number} is damaged; pack and send the archive again."
            )
        key = found[2].decode("ascii", "replace")
        if key.startswith(_OF_ONE_MEMBER):
            records[key] = _text(data[found.end() : end - 1], number)
        position = end
    return records


def _text(raw: bytes, number: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadArchive(f"The name of member {number} cannot be decoded; it must be UTF-8.") from error
