"""Which archive a file is, from its first bytes."""

import tarfile
from enum import StrEnum

HEAD_BYTES = 512
"""How many first bytes `archive_format` needs."""


class ArchiveFormat(StrEnum):
    """Kinds of archive, and of compressed file that may hold one."""

    ZIP = "zip"
    TAR = "tar"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    SEVEN_ZIP = "7z"
    RAR = "RAR"
    ZSTD = "Zstandard"

    @property
    def is_compressed_stream(self) -> bool:
        """Whether it compresses one stream, which may be a tar or any other file."""
        return self in COMPRESSED_STREAMS

    @property
    def is_readable(self) -> bool:
        """Whether `unpack` reads it; the others are known by name only."""
        return self in (ArchiveFormat.ZIP, ArchiveFormat.TAR) or self.is_compressed_stream


COMPRESSED_STREAMS = (ArchiveFormat.GZIP, ArchiveFormat.BZIP2, ArchiveFormat.XZ)

MAGIC = {
    b"PK\x03\x04": ArchiveFormat.ZIP,
    b"PK\x05\x06": ArchiveFormat.ZIP,  # of no members
    b"\x1f\x8b\x08": ArchiveFormat.GZIP,
    b"\xfd7zXZ\x00": ArchiveFormat.XZ,
    b"7z\xbc\xaf\x27\x1c": ArchiveFormat.SEVEN_ZIP,
    b"Rar!\x1a\x07": ArchiveFormat.RAR,
    b"\x28\xb5\x2f\xfd": ArchiveFormat.ZSTD,
}
_BZIP2_FOLLOWS = (b"1AY&SY", b"\x17rE8P\x90")  # a block, or the end of a stream without one
# Programs and documents that are zips by trade, told by their first member.
_DOCUMENTS = (b"META-INF/", b"[Content_Types].xml", b"_rels/", b"mimetype")


def archive_format(head: bytes) -> ArchiveFormat | None:
    """The format of the file that begins with `head` (HEAD_BYTES, or all of a shorter file).

    None for everything else, DICOM with a misleading preamble and Java or office documents included.
    """
    if head[128:132] == b"DICM":
        return None
    for magic, found in MAGIC.items():
        if head.startswith(magic):
            return None if head[30:].startswith(_DOCUMENTS) and found is ArchiveFormat.ZIP else found
    if head.startswith(b"BZh") and head[3:4] in b"123456789" and head[4:10] in _BZIP2_FOLLOWS:
        return ArchiveFormat.BZIP2
    return ArchiveFormat.TAR if is_tar_header(head[:HEAD_BYTES]) else None


def is_tar_header(block: bytes) -> bool:
    """Whether 512 bytes say that they are a tar header, or (in tars older than POSIX) carry its checksum."""
    if block[257:262] == b"ustar":
        return True
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
