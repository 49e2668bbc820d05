"""Archives as right or as wrong as a test wants, by the byte."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from struct import pack

END = bytes(1024)
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gz": lambda data: gzip.compress(data, 6, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


def gzip_header(flags: int) -> bytes:
    """A header of gzip with the parts that the flags announce: 2 its checksum, 4 extra, 8 a name, 16 a comment."""
    parts = {4: b"\4\0ab\0d", 8: b"Doe_Jane.tar\0", 16: b"of 2024\0"}
    header = b"\x1f\x8b\x08" + bytes([flags]) + bytes(5) + b"\xff"
    header += b"".join(part for flag, part in parts.items() if flags & flag)
    return header + (pack("<H", zlib.crc32(header) & 0xFFFF) if flags & 2 else b"")


def tar(files: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """What `tarfile` makes of the files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_member(
    name: str | bytes = "a",
    content: bytes = b"",
    kind: bytes = tarfile.REGTYPE,
    *,
    size: int | None = None,
    **fields: object,
) -> bytes:
    """A ustar header, which may lie about the size, and the padded content. fields: of TarInfo, or `at_<offset>`."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, len(content) if size is None else size
    for field, value in fields.items():
        if not field.startswith("at_"):
            setattr(info, field, value)
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw = name.encode() if isinstance(name, str) else name
    block[:100] = raw.ljust(100, b"\0")
    for field, value in fields.items():
        if field.startswith("at_"):
            assert isinstance(value, bytes)
            block[int(field[3:]) : int(field[3:]) + len(value)] = value
    return with_checksum(bytes(block)) + content + bytes(-len(content) % 512)


def with_checksum(block: bytes) -> bytes:
    """The header with the checksum it should have."""
    total = sum(block[:148]) + sum(block[156:512]) + 8 * 32
    return block[:148] + b"%06o\0 " % total + block[156:]


def pax(records: Mapping[str, str | bytes], kind: bytes = tarfile.XHDTYPE) -> bytes:
    """An extended header."""
    return tar_member("pax", b"".join(record(*pair) for pair in records.items()), kind)


def record(key: str, value: str | bytes) -> bytes:
    """One pax record."""
    rest = b" " + key.encode() + b"=" + (value.encode() if isinstance(value, str) else value) + b"\n"
    length = len(rest) + len(str(len(rest)))
    length = len(rest) + len(str(length))
    return b"%d" % length + rest


def zip_of(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """What `zipfile` makes of the files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def deflate(data: bytes) -> bytes:
    """A raw deflate stream."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@dataclass(frozen=True)
class ZipMember:
    """A zip member whose every field may lie; None: as it should be."""

    name: bytes = b"a"
    content: bytes = b"content"
    method: int = 8
    flags: int = 0
    data: bytes | None = None
    size: int | None = None
    packed: int | None = None
    crc: int | None = None
    mode: int = 0
    start: int | None = None
    extra: bytes = b""
    disk: int = 0
    after: bytes = b""

    @property
    def stored(self) -> bytes:
        if self.data is not None:
            return self.data
        return deflate(self.content) if self.method == 8 else self.content

    def _common(self) -> tuple[int, ...]:
        crc = zlib.crc32(self.content) if self.crc is None else self.crc
        packed = len(self.stored) if self.packed is None else self.packed
        size = len(self.content) if self.size is None else self.size
        return 20, self.flags, self.method, 0, 33, crc, packed, size, len(self.name), len(self.extra)

    def local(self) -> bytes:
        return (
            pack("<4s5H3L2H", b"PK\3\4", *self._common()) + self.name + self.extra + self.stored + self.after
        )

    def central(self, start: int) -> bytes:
        there = start if self.start is None else self.start
        return (
            pack("<4s6H3L2H", b"PK\1\2", 0x0314, *self._common())
            + pack("<3H2L", 0, self.disk, 0, self.mode << 16, there)
            + self.name
            + self.extra
        )


def zip_by_hand(
    *members: ZipMember,
    directory: Callable[[ZipMember], ZipMember] = lambda member: member,
    count: int | None = None,
    count_here: int | None = None,
    directory_size: int | None = None,
    directory_at: int | None = None,
    disk: int = 0,
    before_end: Callable[[int, int], bytes] = lambda at, size: b"",
) -> bytes:
    """A zip of the members; directory: what its central directory says of each. before_end: (place, size) of it."""
    body = b""
    central = b""
    for member in members:
        central += directory(member).central(len(body))
        body += member.local()
    said = len(members) if count is None else count
    size = len(central) if directory_size is None else directory_size
    at = len(body) if directory_at is None else directory_at
    here = said if count_here is None else count_here
    end = pack("<4s4H2LH", b"PK\5\6", disk, disk, here, said, size, at, 0)
    return body + central + before_end(len(body), len(central)) + end


def zip64_end(count: int, size: int, at: int, *, record_at: int, length: int = 44, disks: int = 1) -> bytes:
    """The 64-bit end record and its locator."""
    wide = pack("<4sQ2H2L4Q", b"PK\6\6", length, 45, 45, 0, 0, count, count, size, at)
    return wide + pack("<4sLQL", b"PK\6\7", 0, record_at, disks)


def overlapping_zip(files: int, kernel: bytes) -> bytes:
    """Fifield's first bomb: every member is the same deflated kernel."""
    member = ZipMember(content=kernel)
    central = b"".join(member.central(0) for _ in range(files))
    body = member.local()
    return body + central + pack("<4s4H2LH", b"PK\5\6", 0, 0, files, files, len(central), len(body), 0)


def quoting_zip(files: int, kernel: bytes) -> bytes:
    """Fifield's better bomb: every member quotes the local headers that follow it in a stored deflate block."""
    last = ZipMember(name=b"%04d" % (files - 1), content=kernel)
    members, body = [(last, last.local())], last.local()
    for number in range(files - 2, -1, -1):
        following, local = members[-1]
        header = local[: 30 + len(following.name)]
        data = b"\0" + pack("<HH", len(header), len(header) ^ 0xFFFF) + header + following.stored
        member = ZipMember(name=b"%04d" % number, content=header + following.content, data=data)
        body = member.local()
        members.append((member, body))
    members.reverse()
    central, at = b"", 0
    for member, _ in members:
        central += member.central(at)
        at += 30 + len(member.name) + 5
    return body + central + pack("<4s4H2LH", b"PK\5\6", 0, 0, files, files, len(central), len(body), 0)


def saying(**changes: object) -> Callable[[ZipMember], ZipMember]:
    """A directory that says otherwise of every member."""
    return lambda member: replace(member, **changes)
