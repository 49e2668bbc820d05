"""Archives from strangers, read as streams under caps: zip, tar, and either of them or one file in gzip, bzip2 or xz.

`unpack` writes the regular files of an archive under numbered names, or nothing when anything in it is refused.
The headers are read here and not by `tarfile.open` and `zipfile.ZipFile`: those take whole extension headers, whole
central directories and whole bzip2 blocks into memory, whatever size a header claims. Of the standard library stay
`TarInfo.frombuf`, the data filter and the decoders, each with a bound on its output.
"""

from shared.archives.errors import ArchiveTooLarge, BadArchive, UnsupportedArchive
from shared.archives.formats import HEAD_BYTES, ArchiveFormat, archive_format
from shared.archives.limits import ArchiveLimits
from shared.archives.member import Member
from shared.archives.unpack import unpack

__all__ = [
    "HEAD_BYTES",
    "ArchiveFormat",
    "ArchiveLimits",
    "ArchiveTooLarge",
    "BadArchive",
    "Member",
    "UnsupportedArchive",
    "archive_format",
    "unpack",
]
